#include "network/turns.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace network {
namespace {

// How often one who waits looks whether its own request was cancelled.
constexpr absl::Duration kLook = absl::Milliseconds(200);

}  // namespace

Turns::Turn::Turn(Turns* turns, std::string container_id)
    : turns_(turns), container_id_(std::move(container_id)) {}

Turns::Turn::Turn(Turn&& other) noexcept
    : turns_(std::exchange(other.turns_, nullptr)), container_id_(other.container_id_) {}

Turns::Turn::~Turn() {
  if (turns_ != nullptr) {
    turns_->End(container_id_);
  }
}

absl::StatusOr<Turns::Turn> Turns::Take(const base::Context& ctx, Kind kind,
                                        const std::string& container_id) {
  base::MutexLock lock(&mutex_);
  while (true) {
    const Load load = LoadOf(kind);
    if (load.running >= limits_.at_once && load.all_slow) {
      return absl::UnavailableError(
          base::StrCat(load.running, " network operations run for more than ",
                       absl::FormatDuration(limits_.slow), " each: the plugins hang"));
    }
    if (!collecting_ && running_.count(container_id) == 0 && load.running < limits_.at_once) {
      break;
    }
    RETURN_IF_ERROR(base::Annotate(Wait(ctx), "wait for other network operations"));
  }
  running_[container_id] = {.kind = kind, .since = base::SteadyTime::Now()};
  return Turn(this, container_id);
}

absl::StatusOr<Turns::Turn> Turns::TakeAll(const base::Context& ctx) {
  base::MutexLock lock(&mutex_);
  while (collecting_ || !running_.empty()) {
    RETURN_IF_ERROR(base::Annotate(Wait(ctx), "wait until no network operation runs"));
  }
  collecting_ = true;
  return Turn(this, "");
}

Turns::Load Turns::LoadOf(Kind kind) const {
  Load load;
  const base::SteadyTime slow_since = base::SteadyTime::Now() - limits_.slow;
  for (const auto& [id, operation] : running_) {
    if (operation.kind == kind) {
      ++load.running;
      load.all_slow = load.all_slow && operation.since <= slow_since;
    }
  }
  return load;
}

absl::Status Turns::Wait(const base::Context& ctx) {
  RETURN_IF_ERROR(ctx.Check());
  ended_.WaitUntil(&mutex_, std::min(ctx.deadline(), base::SteadyTime::Now() + kLook));
  return absl::OkStatus();
}

void Turns::End(const std::string& container_id) {
  base::MutexLock lock(&mutex_);
  if (container_id.empty()) {
    collecting_ = false;
  } else {
    running_.erase(container_id);
  }
  ended_.NotifyAll();
}

}  // namespace network
