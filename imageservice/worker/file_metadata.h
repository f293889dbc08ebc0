// Owner, mode, xattrs and times of an unpacked file, set in the order in which they survive.
#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "imageservice/worker/tar_header.h"

namespace imageservice::worker {

// What a file has already, so that only differences cost system calls.
struct Ownership {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0;
};

// Applies `metadata` to an open file or directory that was made as `made`. Xattrs that the file
// system or our privileges do not allow are left out.
absl::Status ApplyMetadata(int file, const Ownership& made, const FileMetadata& metadata);

// Applies `metadata` to the symlink or FIFO `name`, just made in `directory`, without opening it.
// For a symlink, `made` has the mode of `metadata`: it has none of its own. Xattrs are left out:
// user.* is for files and folders only, security.* beyond capabilities is not ours to set.
absl::Status ApplyMetadataAt(int directory, const std::string& name, const Ownership& made,
                             const FileMetadata& metadata);

// Whether a layer may set this xattr: not those that steer overlayfs, nor SELinux labels, which
// come from the mount.
bool IsAllowedXattr(const std::string& name);

}  // namespace imageservice::worker
