#include "network/detach_debts.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace network {
namespace {
// A hanging plugin must not keep the debts of other pods waiting.
constexpr int kMaxRunners = 4;
// A debt that was tried so recently is not tried again because others succeed.
constexpr absl::Duration kCalm = absl::Seconds(30);
}  // namespace

struct DetachDebts::Entry {
  Debt debt;
  Claim claim;
  absl::Duration pause;  // Before the attempt after the next.
  base::SteadyTime last_attempt = base::SteadyTime::InfinitePast();
  bool running = false;
};

DetachDebts::DetachDebts(PodNetwork& network, Backoff backoff)
    : network_(network), backoff_(backoff) {
  lane_.emplace("detach-debts", kMaxRunners, kMaxRunners);
}

DetachDebts::~DetachDebts() { Stop(); }

void DetachDebts::Stop() {
  stop_->Cancel();
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  lane_.reset();
}

void DetachDebts::Add(Claim claim) {
  const base::PodId pod = claim.pod;
  const base::SteadyTime now = base::SteadyTime::Now();
  Debt debt{.pod = pod,
            .attempts = 0,
            .since = absl::Now(),
            .last_error = claim.cause,
            .next_attempt = claim.first == FirstTry::kNow ? now : now + backoff_.first};
  auto entry = std::make_shared<Entry>(Entry{.debt = std::move(debt),
                                             .claim = std::move(claim),
                                             .pause = backoff_.first * 2,
                                             .running = false});
  base::MutexLock lock(&mutex_);
  if (debts_.try_emplace(pod, std::move(entry)).second) {
    StartRunner();
    changed_.NotifyAll();
  }
}

void DetachDebts::Hurry() {
  base::MutexLock lock(&mutex_);
  HurryLocked();
}

void DetachDebts::HurryLocked() {
  const std::shared_ptr<Entry> next = NextDue();
  const base::SteadyTime now = base::SteadyTime::Now();
  if (next != nullptr && next->debt.next_attempt > now && next->last_attempt < now - kCalm) {
    next->debt.next_attempt = now;
    changed_.NotifyAll();
  }
}

void DetachDebts::Forget(const base::PodId& pod) {
  base::MutexLock lock(&mutex_);
  debts_.erase(pod);
  changed_.NotifyAll();
}

std::vector<DetachDebts::Debt> DetachDebts::List() const {
  base::MutexLock lock(&mutex_);
  std::vector<Debt> list;
  list.reserve(debts_.size());
  for (const auto& [pod, entry] : debts_) {
    list.push_back(entry->debt);
  }
  return list;
}

size_t DetachDebts::Count() const {
  base::MutexLock lock(&mutex_);
  return debts_.size();
}

bool DetachDebts::Has(const base::PodId& pod) const {
  base::MutexLock lock(&mutex_);
  return debts_.count(pod) != 0;
}

void DetachDebts::StartRunner() {
  if (stopping_ || runners_ >= kMaxRunners || static_cast<size_t>(runners_) >= debts_.size()) {
    return;
  }
  const absl::Status posted = lane_->Post([this] { Run(); });
  if (posted.ok()) {
    ++runners_;
  } else if (runners_ == 0) {
    base::LogError("retry of failed network detaches: ", base::ToStd(posted.message()));
  }
}

void DetachDebts::Run() {
  base::MutexLock lock(&mutex_);
  while (!stopping_) {
    const std::shared_ptr<Entry> next = NextDue();
    if (next == nullptr) {
      break;
    }
    if (base::SteadyTime::Now() < next->debt.next_attempt) {
      changed_.WaitUntil(&mutex_, next->debt.next_attempt);
      continue;
    }
    Attempt(next);
  }
  --runners_;
}

std::shared_ptr<DetachDebts::Entry> DetachDebts::NextDue() {
  std::shared_ptr<Entry> next;
  for (const auto& [pod, entry] : debts_) {
    if (!entry->running &&
        (next == nullptr || entry->debt.next_attempt < next->debt.next_attempt)) {
      next = entry;
    }
  }
  return next;
}

void DetachDebts::Attempt(const std::shared_ptr<Entry>& entry) {
  entry->running = true;
  mutex_.Unlock();
  const Claim& claim = entry->claim;
  const absl::Status detached = network_.Detach(base::Context(base::SteadyTime::InfiniteFuture(), stop_),
                                                claim.plan, claim.result, claim.netns_path);
  mutex_.Lock();
  entry->last_attempt = base::SteadyTime::Now();
  const auto found = debts_.find(entry->debt.pod);
  const bool owed = found != debts_.end() && found->second == entry;
  if (!owed || stopping_) {
    return;
  }
  const int attempts = ++entry->debt.attempts;
  if (detached.ok()) {
    debts_.erase(found);
    base::LogInfo("pod ", entry->debt.pod.str(), ": network detached in attempt ", attempts);
    HurryLocked();
  } else {
    entry->debt.last_error = base::ToStd(detached.message());
    entry->debt.next_attempt = entry->last_attempt + std::min(entry->pause, backoff_.longest);
    entry->pause = std::min(entry->pause * 2, backoff_.longest);
    base::LogDebug("pod ", entry->debt.pod.str(), ": detach, attempt ", attempts, ": ",
                   entry->debt.last_error);
  }
  mutex_.Unlock();
  if (detached.ok() && claim.done) {
    claim.done();
  } else if (!detached.ok() && claim.failed) {
    claim.failed(attempts);
  }
  mutex_.Lock();
  entry->running = false;
}

}  // namespace network
