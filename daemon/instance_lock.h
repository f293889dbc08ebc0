// One daemon for each root, and for each cgroup of helpers.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace crispd {

// Held until it is destroyed or the process ends, however it ends. Children do not inherit it.
class InstanceLock {
 public:
  // Locks `<directory>/lock` and writes our pid into it; makes the directory (0700) when it is
  // missing. FAILED_PRECONDITION with the holder's pid when another process has the lock.
  static absl::StatusOr<InstanceLock> Acquire(const std::string& directory);
  // Locks the directory itself (a cgroup's, where no file can be made). FAILED_PRECONDITION when
  // another process has the lock.
  static absl::StatusOr<InstanceLock> AcquireDirectory(const std::string& directory);

 private:
  explicit InstanceLock(base::UniqueFd file) : file_(std::move(file)) {}

  base::UniqueFd file_;
};

}  // namespace crispd
