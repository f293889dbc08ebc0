// The folders that an image declares as volumes (OCI image-spec, config.md, "Volumes"), in the root
// file system of a container that does not run yet.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"

namespace imageservice {

// The folder at `path` in the file system below `root`, made with its parents (0755) where it is
// missing. Symlinks are followed as a process with that root would, so nothing leads out of it.
// Returns its path from `root`, without symlinks and without a slash at the beginning.
// FAILED_PRECONDITION when something else stands in the way.
absl::StatusOr<std::string> MakeFolderBeneath(const std::string& root, const std::string& path);

// Makes `to`, whose parent exists, a copy of the folder `from`: content, owners, modes, extended
// attributes, times and hard links, files of every kind. Nothing may change in `from` meanwhile.
// RESOURCE_EXHAUSTED for folders nested more than 100 deep and for a full disk. What an error
// leaves is the caller's to remove.
absl::Status CopyFolder(const base::Context& ctx, const std::string& from, const std::string& to);

}  // namespace imageservice
