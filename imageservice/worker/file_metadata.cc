#include "imageservice/worker/file_metadata.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>

#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

// What `setxattr` answered for one xattr.
absl::Status XattrStatus(int result, const std::string& name) {
  if (result == 0 || errno == ENOTSUP || errno == EPERM) {
    return absl::OkStatus();
  }
  return base::ErrnoStatus(errno, base::StrCat("set xattr ", name));
}

}  // namespace

bool IsAllowedXattr(const std::string& name) {
  return !name.starts_with("trusted.") && !name.starts_with("user.overlay.") &&
         name != "security.selinux";
}

absl::Status ApplyMetadata(int file, const Ownership& made, const FileMetadata& metadata) {
  if ((made.uid != metadata.uid || made.gid != metadata.gid) &&
      fchown(file, metadata.uid, metadata.gid) != 0) {
    return base::ErrnoStatus(errno, "set the owner");
  }
  // After the owner: chown clears setuid bits and file capabilities.
  if (made.mode != metadata.mode && fchmod(file, metadata.mode) != 0) {
    return base::ErrnoStatus(errno, "set the mode");
  }
  for (const auto& [name, value] : metadata.xattrs) {
    if (IsAllowedXattr(name)) {
      RETURN_IF_ERROR(
          XattrStatus(fsetxattr(file, name.c_str(), value.data(), value.size(), 0), name));
    }
  }
  const timespec times[2] = {metadata.atime, metadata.mtime};
  if (futimens(file, times) != 0) {
    return base::ErrnoStatus(errno, "set the times");
  }
  return absl::OkStatus();
}

absl::Status ApplyMetadataAt(int directory, const std::string& name, const Ownership& made,
                             const FileMetadata& metadata) {
  if ((made.uid != metadata.uid || made.gid != metadata.gid) &&
      fchownat(directory, name.c_str(), metadata.uid, metadata.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, "set the owner");
  }
  // fchmodat follows symlinks, but this is none, and nobody else writes here.
  if (made.mode != metadata.mode && fchmodat(directory, name.c_str(), metadata.mode, 0) != 0) {
    return base::ErrnoStatus(errno, "set the mode");
  }
  const timespec times[2] = {metadata.atime, metadata.mtime};
  if (utimensat(directory, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, "set the times");
  }
  return absl::OkStatus();
}

}  // namespace imageservice::worker
