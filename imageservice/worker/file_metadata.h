// Owner, mode, xattrs and times of an unpacked file, set in the order in which they survive.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "imageservice/worker/layer_tree.h"

namespace imageservice::worker {

// Times that a directory's later entries would change again are set later.
enum class Times { kNow, kLater };

// Applies `metadata` to an open file or directory. Xattrs that the file system or our privileges do
// not allow are left out.
absl::Status ApplyMetadata(int file, const FileMetadata& metadata, Times times);

// Applies `metadata` to the symlink or node `name`, just made in `directory`, without opening it.
absl::Status ApplyMetadataAt(int directory, const std::string& name, mode_t type,
                             const FileMetadata& metadata);

// Whether a layer may set this xattr: not those that steer overlayfs, nor SELinux labels, which
// come from the mount.
bool IsAllowedXattr(const std::string& name);

}  // namespace imageservice::worker
