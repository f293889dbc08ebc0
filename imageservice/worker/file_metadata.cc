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

absl::Status ApplyMetadata(int file, const FileMetadata& metadata, Times times) {
  if (fchown(file, metadata.uid, metadata.gid) != 0) {
    return base::ErrnoStatus(errno, "set the owner");
  }
  // After the owner: chown clears setuid bits and file capabilities.
  if (fchmod(file, metadata.mode & 07777) != 0) {
    return base::ErrnoStatus(errno, "set the mode");
  }
  for (const auto& [name, value] : metadata.xattrs) {
    if (IsAllowedXattr(name)) {
      RETURN_IF_ERROR(
          XattrStatus(fsetxattr(file, name.c_str(), value.data(), value.size(), 0), name));
    }
  }
  const timespec values[2] = {metadata.atime, metadata.mtime};
  if (times == Times::kNow && futimens(file, values) != 0) {
    return base::ErrnoStatus(errno, "set the times");
  }
  return absl::OkStatus();
}

absl::Status ApplyMetadataAt(int directory, const std::string& name, mode_t type,
                             const FileMetadata& metadata) {
  if (fchownat(directory, name.c_str(), metadata.uid, metadata.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, "set the owner");
  }
  // fchmodat follows symlinks, but this is none, and nobody else writes here.
  if (type != S_IFLNK && fchmodat(directory, name.c_str(), metadata.mode & 07777, 0) != 0) {
    return base::ErrnoStatus(errno, "set the mode");
  }
  // There is no lsetxattrat; the last component of this path is not followed.
  const std::string path = base::StrCat("/proc/self/fd/", directory, "/", name);
  for (const auto& [xattr, value] : metadata.xattrs) {
    if (IsAllowedXattr(xattr)) {
      RETURN_IF_ERROR(XattrStatus(
          lsetxattr(path.c_str(), xattr.c_str(), value.data(), value.size(), 0), xattr));
    }
  }
  const timespec values[2] = {metadata.atime, metadata.mtime};
  if (utimensat(directory, name.c_str(), values, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, "set the times");
  }
  return absl::OkStatus();
}

}  // namespace imageservice::worker
