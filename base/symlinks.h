// Following symlinks within a root, when the tree is not one that the kernel can walk.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace base {

// Tells the target of the symlink at a path relative to the root, which has no symlinks before its
// last component; empty when there is none there. An error ends the walk.
using SymlinkReader = std::function<absl::StatusOr<std::string>(const std::string& path)>;

// The relative path `path` ("." is the root) without symlinks, as chroot(2) would follow them: an
// absolute target begins at the root, whose parent it is itself. What does not exist is no symlink.
// INVALID_ARGUMENT for more than 40 symlinks, as the kernel has it, and for a path that becomes
// longer than 4095 bytes or deeper than 256 components.
absl::StatusOr<std::string> ResolveSymlinks(std::string_view path, const SymlinkReader& read);

}  // namespace base
