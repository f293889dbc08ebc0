// The root file system of one container: an overlay of its image's layers and a writable directory.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/id.h"

namespace imageservice {

// Thread-safe for different containers. Paths follow from ids, so every call can be repeated.
class Rootfs {
 public:
  // Layers are at `<root>/layers/<chain id>`, writable directories at
  // `<root>/containers/<id>/{upper,work}`, mounts at `<run_root>/containers/<id>/rootfs`.
  Rootfs(std::string root, std::string run_root);

  // Mounts the overlay for `container` and returns where. What an interrupted call left is
  // replaced.
  absl::StatusOr<std::string> Prepare(const base::Context& ctx, const base::ContainerId& container,
                                      const std::vector<std::string>& chain_ids);

  // Unmounts and deletes the writable directory: renamed away first, then unlinked for at most half
  // of the context's time, the rest in the background. OK if there is nothing.
  absl::Status Remove(const base::Context& ctx, const base::ContainerId& container);

 private:
  const std::string root_;
  const std::string run_root_;
};

}  // namespace imageservice
