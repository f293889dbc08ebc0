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
}  // namespace

struct DetachDebts::Entry {
  Debt debt;
  std::string plan;
  std::string result;
  std::string netns_path;
  std::function<void()> done;
  absl::Duration pause;  // Before the attempt after the next.
  bool running = false;
};

DetachDebts::DetachDebts(PodNetwork& network, Backoff backoff)
    : network_(network), backoff_(backoff), lane_("detach-debts", kMaxRunners, kMaxRunners) {}

DetachDebts::~DetachDebts() {
  stop_->Cancel();
  base::MutexLock lock(&mutex_);
  stopping_ = true;
  changed_.NotifyAll();
}

void DetachDebts::Add(const base::PodId& pod, std::string plan, std::string result,
                      std::string netns_path, std::function<void()> done, std::string cause) {
  auto entry = std::make_shared<Entry>(Entry{.debt = {.pod = pod,
                                                      .attempts = 0,
                                                      .last_error = std::move(cause),
                                                      .next_attempt = absl::Now() + backoff_.first},
                                             .plan = std::move(plan),
                                             .result = std::move(result),
                                             .netns_path = std::move(netns_path),
                                             .done = std::move(done),
                                             .pause = backoff_.first * 2,
                                             .running = false});
  base::MutexLock lock(&mutex_);
  if (debts_.try_emplace(pod, std::move(entry)).second) {
    StartRunner();
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

void DetachDebts::StartRunner() {
  if (runners_ >= kMaxRunners || static_cast<size_t>(runners_) >= debts_.size()) {
    return;
  }
  const absl::Status posted = lane_.Post([this] { Run(); });
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
    if (absl::Now() < next->debt.next_attempt) {
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
  const absl::Status detached = network_.Detach(base::Context(absl::InfiniteFuture(), stop_),
                                                entry->plan, entry->result, entry->netns_path);
  mutex_.Lock();
  entry->running = false;
  const auto found = debts_.find(entry->debt.pod);
  const bool owed = found != debts_.end() && found->second == entry;
  if (!owed || stopping_) {
    return;
  }
  ++entry->debt.attempts;
  if (!detached.ok()) {
    entry->debt.last_error = base::ToStd(detached.message());
    entry->debt.next_attempt = absl::Now() + std::min(entry->pause, backoff_.longest);
    entry->pause = std::min(entry->pause * 2, backoff_.longest);
    base::LogDebug("pod ", entry->debt.pod.str(), ": detach, attempt ", entry->debt.attempts, ": ",
                   entry->debt.last_error);
    return;
  }
  debts_.erase(found);
  base::LogInfo("pod ", entry->debt.pod.str(), ": network detached in attempt ",
                entry->debt.attempts);
  if (entry->done) {
    mutex_.Unlock();
    entry->done();
    mutex_.Lock();
  }
}

}  // namespace network
