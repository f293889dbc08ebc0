#include "base/idmap.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

// The type of the file system that holds `path`, from the line of its mount in mountinfo; empty
// when it is not to be had. For messages.
std::string FileSystemOf(const std::string& path) {
  struct statx status = {};
  if (statx(AT_FDCWD, path.c_str(), AT_NO_AUTOMOUNT, STATX_MNT_ID, &status) != 0) {
    return "";
  }
  const absl::StatusOr<std::string> table = ReadFile("/proc/thread-self/mountinfo");
  const std::string id = StrCat(status.stx_mnt_id, " ");
  for (size_t begin = 0; table.ok() && begin < table->size();) {
    const size_t end = std::min(table->find('\n', begin), table->size());
    const std::string_view line = std::string_view(*table).substr(begin, end - begin);
    const size_t dash = line.find(" - ");
    if (line.substr(0, id.size()) == id && dash != std::string_view::npos) {
      const std::string_view rest = line.substr(dash + 3);
      return std::string(rest.substr(0, rest.find(' ')));
    }
    begin = end + 1;
  }
  return "";
}

absl::StatusOr<UniqueFd> CloneMount(const std::string& source, Submounts submounts) {
  const unsigned depth = submounts == Submounts::kWith ? AT_RECURSIVE : 0;
  UniqueFd mount(open_tree(AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | depth));
  if (!mount.valid()) {
    return ErrnoStatus(errno, StrCat("copy the mount of ", source));
  }
  return mount;
}

}  // namespace

std::string IdMapLine(const IdRange& range) {
  return StrCat(range.inside, " ", range.outside, " ", range.length, "\n");
}

absl::StatusOr<UniqueFd> CloneIdmapped(const std::string& source, int userns, Submounts submounts) {
  ASSIGN_OR_RETURN(UniqueFd mount, CloneMount(source, submounts));
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(userns);
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) == 0) {
    return mount;
  }
  // EINVAL: the file system cannot. EPERM: it belongs to another user namespace, or this mount is
  // id-mapped already.
  const int error = errno;
  if (error == EINVAL || error == EPERM) {
    return absl::FailedPreconditionError(
        StrCat("the file system of ", source, " (", FileSystemOf(source), ") cannot be id-mapped"));
  }
  return ErrnoStatus(error, StrCat("id-map the mount of ", source));
}

absl::StatusOr<UniqueFd> CloneReadOnly(const std::string& source) {
  ASSIGN_OR_RETURN(UniqueFd mount, CloneMount(source, Submounts::kWith));
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                    sizeof(attributes)) != 0) {
    return ErrnoStatus(errno, StrCat("make the copy of ", source, " read-only"));
  }
  return mount;
}

absl::Status AttachMount(const UniqueFd& mount, const std::string& target) {
  if (move_mount(mount.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return ErrnoStatus(errno, StrCat("mount on ", target));
  }
  return absl::OkStatus();
}

absl::Status BindIdmapped(const std::string& source, const UserNamespace& user,
                          const std::string& target, Submounts submounts) {
  ASSIGN_OR_RETURN(const UniqueFd userns, Open(user.path, O_RDONLY));
  ASSIGN_OR_RETURN(const UniqueFd mount, CloneIdmapped(source, userns.get(), submounts));
  return AttachMount(mount, target);
}

}  // namespace base
