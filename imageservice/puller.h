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
// others wait for.
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
  // is cancelled and leaves nothing behind.
  absl::StatusOr<ImagePtr> Pull(const base::Context& ctx, PullPlan plan);

  // Cancels every pull: their callers get CANCELLED.
  void CancelAll();

  // The pulls that are running.
  std::vector<PullProgress> Progress() const;

 private:
  struct Running {
    std::shared_ptr<base::Cancellation> cancellation = std::make_shared<base::Cancellation>();
    Event finished;
    int callers = 1;  // These three are guarded by the puller's mutex.
    absl::StatusOr<ImagePtr> result = ImagePtr();
    PullProgress progress;
    absl::Time logged;
  };

  static std::string KeyOf(const PullPlan& plan);
  void Run(const std::string& key, const std::shared_ptr<Running>& pull, PullPlan plan);
  void Report(const std::shared_ptr<Running>& pull, const PullProgress& progress);
  void Finish(const std::string& key, const std::shared_ptr<Running>& pull,
              absl::StatusOr<ImagePtr> result);

  PullEnvironment environment_;
  const std::function<void(const ImagePtr&)> committed_;
  TokenCache tokens_;

  mutable base::Mutex mutex_;
  // What can be joined, and everything that runs: a cancelled pull is only in the second.
  std::map<std::string, std::shared_ptr<Running>> joinable_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Running>> running_ ABSL_GUARDED_BY(mutex_);
  base::Lane lane_;  // Last: its threads end before the rest goes.
};

}  // namespace imageservice
