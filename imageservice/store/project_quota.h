// Project quotas: the kernel's own count of what a directory's content takes (quotactl(2),
// ext4(5)).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "imageservice/store/disk_usage.h"

namespace imageservice {

// The project quota of one mounted file system. Only its counting is used; no limit is ever set.
// Thread-safe.
class ProjectQuota {
 public:
  // For the file system of `directory`; FAILED_PRECONDITION when it does not count projects (ext4
  // made with "-O quota,project" and mounted with prjquota, xfs mounted with pquota; Linux 5.14).
  static absl::StatusOr<ProjectQuota> Open(const std::string& directory);

  // Puts an empty directory, and what will be made in it, into `project`.
  absl::Status Assign(const std::string& directory, uint32_t project) const;
  // The project of a directory; 0 when it has none of its own.
  absl::StatusOr<uint32_t> ProjectOf(const std::string& directory) const;
  // What belongs to a project. Asks the kernel's memory: cheap. Nothing for an unused project.
  absl::StatusOr<DiskUsage> Usage(uint32_t project) const;

 private:
  explicit ProjectQuota(base::UniqueFd fd) : fd_(std::move(fd)) {}

  base::UniqueFd fd_;  // Any file of the file system.
};

}  // namespace imageservice
