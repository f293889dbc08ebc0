// Who may run network plugins now: one operation for each pod, so many at once, and garbage
// collection only while there is none (CNI 1.1.0, section 2: "GC").
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/context.h"
#include "base/mutex.h"

namespace network {

// Thread-safe.
class Turns {
 public:
  enum class Kind { kAttach, kDetach };
  struct Limits {
    size_t at_once = 64;                      // Operations of each kind; others wait.
    absl::Duration slow = absl::Seconds(10);  // When all run for so long, nobody waits any more.
  };
  Turns() : Turns(Limits()) {}
  explicit Turns(Limits limits) : limits_(limits) {}

  // Ends with its scope.
  class Turn {
   public:
    Turn(Turn&& other) noexcept;
    Turn& operator=(Turn&& other) = delete;
    ~Turn();

   private:
    friend class Turns;
    Turn(Turns* turns, std::string container_id);

    Turns* turns_;
    const std::string container_id_;  // Empty: garbage collection.
  };

  // Waits for other operations of the container, for a collection, and for one of the others when
  // there are too many. CANCELLED, DEADLINE_EXCEEDED; UNAVAILABLE when all that run are slow: a
  // plugin that hangs must not take the callers' threads away from pods that do not need it.
  absl::StatusOr<Turn> Take(const base::Context& ctx, Kind kind, const std::string& container_id);

  // Waits until nothing runs and holds others off; whoever comes while it waits goes first.
  absl::StatusOr<Turn> TakeAll(const base::Context& ctx);

 private:
  struct Operation {
    Kind kind = Kind::kAttach;
    base::SteadyTime since = base::SteadyTime::InfinitePast();
  };
  // Of the kind: how many run, and whether each of them is slow.
  struct Load {
    size_t running = 0;
    bool all_slow = true;
  };
  Load LoadOf(Kind kind) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Wait(const base::Context& ctx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(const std::string& container_id);

  const Limits limits_;
  base::Mutex mutex_;
  base::CondVar ended_;
  std::map<std::string, Operation> running_ ABSL_GUARDED_BY(mutex_);  // By container id.
  bool collecting_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace network
