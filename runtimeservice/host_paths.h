// Looks at paths of the host on threads of their own: one that hangs (a network file system whose
// server is dead) holds up neither the request beyond a limit nor anything that the request holds.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/lane.h"

namespace runtimeservice {

// Thread-safe.
class HostPaths {
 public:
  struct Job;

  // How a look says what it is at; valid during the look.
  class Progress {
   public:
    explicit Progress(Job* job) : job_(job) {}
    // To be called before the look touches `path`, which stands in `field` of the request.
    // DEADLINE_EXCEEDED when an earlier look still hangs at that path, so that retries do not
    // collect threads; CANCELLED when nobody waits for this look any more.
    absl::Status At(std::string field, std::string path);

   private:
    Job* const job_;
  };

  // No look is waited for longer than `limit`.
  explicit HostPaths(absl::Duration limit = absl::Seconds(30));
  // Waits for looks, but not for those that hang: their threads are left to the end of the process.
  ~HostPaths();

  // Runs `look` on another thread and returns its result. DEADLINE_EXCEEDED, naming field and path,
  // when that takes longer than the limit or half of the time `ctx` has left (so that the answer
  // still reaches the caller); CANCELLED when `ctx` is; RESOURCE_EXHAUSTED when too many looks
  // hang. After these `look` may go on for ever: it must own everything it uses, and touch no path
  // before Progress::At said OK.
  template <typename Result>
  absl::StatusOr<Result> Look(const base::Context& ctx,
                              std::function<absl::StatusOr<Result>(Progress&)> look) {
    auto result = std::make_shared<std::optional<absl::StatusOr<Result>>>();
    const absl::Status status = Run(ctx, [result, look = std::move(look)](Progress& progress) {
      result->emplace(look(progress));
    });
    return status.ok() ? *std::move(*result) : absl::StatusOr<Result>(status);
  }

 private:
  struct Shared;
  // OK once `look` has returned.
  absl::Status Run(const base::Context& ctx, std::function<void(Progress&)> look);

  const absl::Duration limit_;
  const std::shared_ptr<Shared> shared_;
  std::unique_ptr<base::Lane> lane_;
};

}  // namespace runtimeservice
