// Deletion of trees in two steps: renamed away at once, unlinked in the background.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/lane.h"
#include "base/mutex.h"
#include "imageservice/event.h"
#include "imageservice/store/disk_usage.h"

namespace imageservice {

// Thread-safe. The directory must be on the file system of what is discarded.
class Trash {
 public:
  // Set once the tree is gone, or left for the next start because it resisted.
  using Removal = std::shared_ptr<Event>;

  // Makes `directory` (0700) and starts removing what an earlier life left in it. `lane` must
  // outlive this object's tasks: destroy the lane first.
  static absl::StatusOr<std::unique_ptr<Trash>> Open(std::string directory, base::Lane* lane);

  // Takes `path` out of sight and starts unlinking it. Null if there is nothing at `path`.
  // `counted` is what it is known to take: that much is pending until it is gone.
  absl::StatusOr<Removal> Discard(const std::string& path, const DiskUsage& counted = {});

  // What is still being unlinked, or resisted, as counted when it was discarded (by an earlier life
  // too: the names tell).
  DiskUsage pending() const;

  // Waits for the removals for half of the time `ctx` has left and never longer than a minute:
  // whoever deletes is going to measure the disk, and what is still being unlinked counts as used.
  static void Wait(const base::Context& ctx, const std::vector<Removal>& removals);

 private:
  Trash(std::string directory, base::Lane* lane) : directory_(std::move(directory)), lane_(lane) {}
  Removal Unlink(const std::string& path, const DiskUsage& counted);
  void Remove(const std::string& path, const DiskUsage& counted);

  const std::string directory_;
  base::Lane* const lane_;

  mutable base::Mutex mutex_;
  DiskUsage pending_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageservice
