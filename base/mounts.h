// Mounts: overlay and tmpfs through the new mount API.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace base {

// An overlay of directories, the top layer first. Without `upper` it is read-only.
struct Overlay {
  std::vector<std::string> lower;
  std::string upper;
  std::string work;
  std::vector<std::pair<std::string, std::string>> options;  // Such as {"metacopy", "off"}.
  unsigned attributes = 0;  // MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC (mount_setattr(2)).
};

// Each takes an existing target directory and makes a private mount there.
absl::Status MountOverlay(const Overlay& overlay, const std::string& target);
// nosuid, nodev, noexec; `bytes` is its size limit, `mode` its root's mode (octal 01777 …).
// `selinux_label`: of everything in it; empty: as the policy has it.
absl::Status MountTmpfs(const std::string& target, uint64_t bytes, mode_t mode,
                        const std::string& selinux_label = {});

// Detaches everything mounted at `target`, lazily (a dead server cannot hang us). OK if nothing is.
absl::Status Unmount(const std::string& target);

absl::StatusOr<bool> IsMountPoint(const std::string& path);

// Unmounts when it goes, unless released.
class ScopedMount {
 public:
  ScopedMount() = default;
  explicit ScopedMount(std::string target) : target_(std::move(target)) {}
  ScopedMount(ScopedMount&& other) noexcept : target_(std::exchange(other.target_, {})) {}
  ScopedMount& operator=(ScopedMount&& other) noexcept {
    std::swap(target_, other.target_);
    return *this;
  }
  ~ScopedMount();

  const std::string& target() const { return target_; }
  void Release() { target_.clear(); }

 private:
  std::string target_;
};

}  // namespace base
