// Detaches that failed are owed: they are tried again in the background until they succeed, so that
// a broken plugin delays the return of an address but not the end of a pod.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/id.h"
#include "base/lane.h"
#include "base/mutex.h"
#include "network/pod_network.h"

namespace network {

// The pod's record stays the durable truth: the caller adds its debts again after a restart.
// Thread-safe. Has threads only while there are debts.
class DetachDebts {
 public:
  struct Backoff {
    absl::Duration first = absl::Seconds(1);
    absl::Duration longest = absl::Minutes(30);
  };

  // `network` must outlive it.
  explicit DetachDebts(PodNetwork& network) : DetachDebts(network, Backoff()) {}
  DetachDebts(PodNetwork& network, Backoff backoff);
  ~DetachDebts();
  DetachDebts(const DetachDebts&) = delete;
  DetachDebts& operator=(const DetachDebts&) = delete;

  // Kills a running attempt and waits for the threads; no callback is called any more, and nothing
  // is tried that is added later. The destructor does it, too.
  void Stop();

  enum class FirstTry { kLater, kNow };
  struct Claim {
    base::PodId pod;
    std::string plan;  // As for PodNetwork::Detach, like the next two.
    std::string result;
    std::string netns_path;
    std::function<void()> done;  // Called once, after the one that succeeds.
    std::function<void(int attempts)> failed = nullptr;  // Called after each other attempt.
    std::string cause = {};  // Why the caller's own attempt failed, for List.
    FirstTry first = FirstTry::kLater;
  };
  // Tries PodNetwork::Detach after 1 s (or now), 2 s, 4 s, … 30 min until it succeeds. Callbacks
  // run on a thread of its own and without a lock held. A pod that has a debt keeps the one it has.
  void Add(Claim claim);

  // To be called when a plugin has succeeded with another pod: of the debts that wait for long, the
  // one that is due next is tried now; its success calls the one after it.
  void Hurry();

  // Drops the pod's debt: it was paid otherwise. An attempt that is running ends unnoticed, but a
  // `done` that is being called is not waited for. Does nothing if there is none.
  void Forget(const base::PodId& pod);

  struct Debt {
    base::PodId pod;
    int attempts = 0;         // Made here, so 0 right after Add.
    absl::Time since;         // When it was added.
    std::string last_error;   // Of the last attempt; before the first the cause that Add was given.
    base::SteadyTime next_attempt;  // In the past while one is running.
  };
  // Sorted by pod.
  std::vector<Debt> List() const;
  size_t Count() const;
  bool Has(const base::PodId& pod) const;

 private:
  struct Entry;
  void Run();
  std::shared_ptr<Entry> NextDue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Attempt(const std::shared_ptr<Entry>& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HurryLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartRunner() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  PodNetwork& network_;
  const Backoff backoff_;
  const std::shared_ptr<base::Cancellation> stop_ = std::make_shared<base::Cancellation>();

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  std::map<base::PodId, std::shared_ptr<Entry>> debts_ ABSL_GUARDED_BY(mutex_);
  int runners_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // Last: its destructor waits for the runners, which use the rest. Empty once stopped.
  std::optional<base::Lane> lane_;
};

}  // namespace network
