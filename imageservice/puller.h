// All pulls: who pulls what, who waits for whom.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/lane.h"
#include "base/mutex.h"
#include "imageservice/event.h"
#include "imageservice/pull_session.h"
#include "imageservice/pull_slots.h"

namespace imageservice {

// Bearer tokens that registries gave out, until they expire. In memory only. Thread-safe.
class TokenCache {
 public:
  void Keep(const worker::Endpoint& endpoint, const worker::Token& token);
  // Empty when there is none that lasts.
  std::string Find(const worker::Endpoint& endpoint) const;

 private:
  static std::string KeyOf(const worker::Endpoint& endpoint);

  mutable base::Mutex mutex_;
  std::map<std::string, worker::Token> tokens_ ABSL_GUARDED_BY(mutex_);
};

// Thread-safe. Each pull runs on a thread of its own, so that a caller who leaves does not end what
// others wait for. A pull whose registries fail in a way that may pass gives its callers the error,
// but its worker is kept for a while: who asks again goes on where it stopped.
class Puller {
 public:
  // `environment` as for a session, without keep_token. `committed` is called after each pull's
  // commit, from the pull's thread.
  Puller(PullEnvironment environment, int max_parallel_pulls,
         std::function<void(const ImagePtr&)> committed);
  // Cancels what runs and waits until it is cleaned up.
  ~Puller();

  // Pulls, or joins a pull of the same plan (credentials included), and returns the image. The
  // caller's deadline or cancellation is this caller's only; when the last one has left, the pull
  // is cancelled and leaves nothing behind. More pulls than may run wait for their turn.
  // `watch` hears how far it is, until this returns; it is called with the puller's mutex held: it
  // must be quick and must not call the puller.
  using Watch = std::function<void(const PullProgress&)>;
  absl::StatusOr<ImagePtr> Pull(const base::Context& ctx, PullPlan plan, Watch watch = nullptr);

  // Cancels every pull: their callers get CANCELLED.
  void CancelAll();

  // The pulls that are running.
  std::vector<PullProgress> Progress() const;

 private:
  // Those who wait for the same result. Guarded by the puller's mutex, but for `finished`.
  struct Round {
    Event finished;
    int callers = 0;
    absl::StatusOr<ImagePtr> result = ImagePtr();
  };
  struct Running {
    std::string key;
    std::string log_fields;  // Of the first caller.
    std::shared_ptr<base::Cancellation> cancellation = std::make_shared<base::Cancellation>();
    Event go_on;  // Set when somebody asks for a pull that stands still.
    // Guarded by the puller's mutex, as what follows.
    std::shared_ptr<Round> round = std::make_shared<Round>();
    bool stalled = false;
    PullProgress progress;
    absl::Time logged;
    std::map<int64_t, Watch> watches;
  };
  using RunningPtr = std::shared_ptr<Running>;

  static std::string KeyOf(const PullPlan& plan);
  RunningPtr Join(const PullPlan& plan, std::shared_ptr<Round>* round, bool* is_new);
  void Run(const RunningPtr& pull, PullPlan plan);
  absl::StatusOr<ImagePtr> RunSession(const base::Context& ctx, const RunningPtr& pull,
                                      PullPlan plan);
  void Report(const RunningPtr& pull, const PullProgress& progress);
  absl::Status StandStill(const base::Context& ctx, const RunningPtr& pull, const absl::Status& why,
                          const Event& wanted, int worker, bool* has_slot);
  void Finish(const RunningPtr& pull, absl::StatusOr<ImagePtr> result);
  void Forget(const RunningPtr& pull) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  PullEnvironment environment_;
  const std::function<void(const ImagePtr&)> committed_;
  TokenCache tokens_;
  PullSlots slots_;

  mutable base::Mutex mutex_;
  // What can be joined, and everything that runs: a cancelled pull is only in the second.
  std::map<std::string, RunningPtr> joinable_ ABSL_GUARDED_BY(mutex_);
  std::vector<RunningPtr> running_ ABSL_GUARDED_BY(mutex_);
  int stalled_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t last_watch_ ABSL_GUARDED_BY(mutex_) = 0;
  base::Lane lane_;  // Last: its threads end before the rest goes.
};

}  // namespace imageservice
