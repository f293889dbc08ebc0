#include "base/mounts.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_format.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace base {
namespace {

// The kernel writes what it disliked into the context's log, one "e text" line a read.
std::string KernelWords(int context) {
  std::string words;
  char line[512];
  ssize_t got;
  while ((got = read(context, line, sizeof(line))) > 0) {
    std::string_view text(line, static_cast<size_t>(got));
    while (!text.empty() && text.back() == '\n') {
      text.remove_suffix(1);
    }
    words += StrCat(words.empty() ? " (" : "; ", text);
  }
  return words.empty() ? words : words + ")";
}

absl::Status MountError(int error, int context, std::string_view what) {
  return ErrnoStatus(error, StrCat(what, KernelWords(context)));
}

absl::StatusOr<UniqueFd> OpenFilesystem(const char* type) {
  UniqueFd context(fsopen(type, FSOPEN_CLOEXEC));
  if (!context.valid()) {
    return ErrnoStatus(errno, StrCat("open file system ", type));
  }
  return context;
}

absl::Status SetOption(int context, const std::string& key, const std::string& value) {
  if (fsconfig(context, FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0) != 0) {
    return MountError(errno, context, StrCat("set mount option ", key, "=", value));
  }
  return absl::OkStatus();
}

absl::Status CreateAndMove(int context, unsigned attributes, const std::string& target) {
  if (fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return MountError(errno, context, StrCat("mount on ", target));
  }
  const UniqueFd mount(fsmount(context, FSMOUNT_CLOEXEC, attributes));
  if (!mount.valid()) {
    return MountError(errno, context, StrCat("mount on ", target));
  }
  if (move_mount(mount.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return ErrnoStatus(errno, StrCat("mount on ", target));
  }
  return absl::OkStatus();
}

// overlayfs splits "lowerdir" at ":" and takes "\" as an escape.
std::string EscapeLower(const std::string& path) {
  std::string escaped;
  for (const char c : path) {
    if (c == ':' || c == '\\') {
      escaped += '\\';
    }
    escaped += c;
  }
  return escaped;
}

// "lowerdir+" takes one layer at a time and has no limit (Linux 6.5); older kernels get one string,
// which fsconfig limits to 255 bytes: then the classic mount(2) with its page-sized limit is left.
absl::Status AddLayers(int context, const std::vector<std::string>& lower) {
  for (const std::string& layer : lower) {
    if (fsconfig(context, FSCONFIG_SET_STRING, "lowerdir+", layer.c_str(), 0) != 0) {
      return MountError(errno, context, StrCat("add overlay layer ", layer));
    }
  }
  return absl::OkStatus();
}

absl::Status MountOverlayClassic(const Overlay& overlay, const std::string& target) {
  std::string data = "lowerdir=";
  for (size_t i = 0; i < overlay.lower.size(); ++i) {
    data += StrCat(i == 0 ? "" : ":", EscapeLower(overlay.lower[i]));
  }
  if (!overlay.upper.empty()) {
    data += StrCat(",upperdir=", overlay.upper, ",workdir=", overlay.work);
  }
  for (const auto& [key, value] : overlay.options) {
    // Quotes keep the commas of a SELinux label in it.
    const char* quote = value.find(',') == std::string::npos ? "" : "\"";
    data += StrCat(",", key, "=", quote, value, quote);
  }
  if (data.size() >= 4096) {
    return absl::FailedPreconditionError(
        StrCat("mount on ", target, ": the options of ", overlay.lower.size(),
               " layers do not fit this kernel's page; Linux 6.5 has no such limit"));
  }
  // The four attributes an overlay can have here are the same bits in both interfaces.
  static_assert(MOUNT_ATTR_RDONLY == MS_RDONLY && MOUNT_ATTR_NOSUID == MS_NOSUID &&
                MOUNT_ATTR_NODEV == MS_NODEV && MOUNT_ATTR_NOEXEC == MS_NOEXEC);
  if (mount("overlay", target.c_str(), "overlay", overlay.attributes, data.c_str()) != 0) {
    return ErrnoStatus(errno, StrCat("mount an overlay on ", target));
  }
  return absl::OkStatus();
}

absl::Status MakePrivate(const std::string& target) {
  if (mount(nullptr, target.c_str(), nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
    return ErrnoStatus(errno, StrCat("make the mount on ", target, " private"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MountOverlay(const Overlay& overlay, const std::string& target) {
  ASSIGN_OR_RETURN(const UniqueFd context, OpenFilesystem("overlay"));
  if (!AddLayers(context.get(), overlay.lower).ok()) {
    RETURN_IF_ERROR(MountOverlayClassic(overlay, target));
    return MakePrivate(target);
  }
  RETURN_IF_ERROR(SetOption(context.get(), "source", "overlay"));
  if (!overlay.upper.empty()) {
    RETURN_IF_ERROR(SetOption(context.get(), "upperdir", overlay.upper));
    RETURN_IF_ERROR(SetOption(context.get(), "workdir", overlay.work));
  }
  for (const auto& [key, value] : overlay.options) {
    RETURN_IF_ERROR(SetOption(context.get(), key, value));
  }
  RETURN_IF_ERROR(CreateAndMove(context.get(), overlay.attributes, target));
  return MakePrivate(target);
}

absl::Status MountTmpfs(const std::string& target, uint64_t bytes, mode_t mode,
                        const std::string& selinux_label) {
  ASSIGN_OR_RETURN(const UniqueFd context, OpenFilesystem("tmpfs"));
  RETURN_IF_ERROR(SetOption(context.get(), "source", "tmpfs"));
  RETURN_IF_ERROR(SetOption(context.get(), "size", StrCat(bytes)));
  RETURN_IF_ERROR(SetOption(context.get(), "mode", absl::StrFormat("%o", mode)));
  if (!selinux_label.empty()) {
    RETURN_IF_ERROR(SetOption(context.get(), "context", selinux_label));
  }
  RETURN_IF_ERROR(CreateAndMove(context.get(),
                                MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, target));
  return MakePrivate(target);
}

absl::Status Unmount(const std::string& target) {
  // Several may be stacked; each call takes the topmost.
  while (umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
  }
  if (errno == EINVAL || errno == ENOENT) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, StrCat("unmount ", target));
}

absl::StatusOr<bool> IsMountPoint(const std::string& path) {
  struct statx info = {};
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_MNT_ID, &info) !=
      0) {
    return ErrnoStatus(errno, StrCat("stat ", path));
  }
  return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

ScopedMount::~ScopedMount() {
  if (target_.empty()) {
    return;
  }
  const absl::Status status = Unmount(target_);
  if (!status.ok()) {
    LogWarning(ToStd(status.message()));
  }
}

}  // namespace base
