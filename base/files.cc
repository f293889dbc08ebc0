#include "base/files.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>

#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) {
    return ".";
  }
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Makes `temporary` with `data` in it.
absl::StatusOr<UniqueFd> WriteTemporary(const std::string& temporary, std::string_view data,
                                        mode_t mode, Durability durability) {
  ASSIGN_OR_RETURN(UniqueFd fd, Open(temporary, O_WRONLY | O_CREAT | O_EXCL, mode));
  if (fchmod(fd.get(), mode) != 0) {
    return ErrnoStatus(errno, StrCat("chmod ", temporary));
  }
  RETURN_IF_ERROR(WriteAll(fd.get(), data, temporary));
  // The content is on the disk before the name is: a rename that survives power loss shows it
  // whole.
  constexpr unsigned kWriteAndWait =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (durability != Durability::kVolatile && sync_file_range(fd.get(), 0, 0, kWriteAndWait) != 0 &&
      fdatasync(fd.get()) != 0) {
    return ErrnoStatus(errno, StrCat("write ", temporary, " to the disk"));
  }
  return fd;
}

struct DirectoryCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};
using DirectoryStream = std::unique_ptr<DIR, DirectoryCloser>;

absl::StatusOr<std::vector<std::string>> NamesIn(UniqueFd fd, std::string_view path) {
  DirectoryStream directory(fdopendir(fd.get()));
  if (!directory) {
    return ErrnoStatus(errno, StrCat("list ", path));
  }
  (void)fd.Release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(directory.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") {
      names.push_back(name);
    }
    errno = 0;
  }
  if (errno != 0) {
    return ErrnoStatus(errno, StrCat("list ", path));
  }
  return names;
}

// The mount a descriptor's file is on.
absl::StatusOr<uint64_t> MountIdOf(int directory, const std::string& name, std::string_view path) {
  struct statx info = {};
  if (statx(directory, name.c_str(), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT,
            STATX_MNT_ID, &info) != 0) {
    return ErrnoStatus(errno, StrCat("stat ", path));
  }
  return info.stx_mnt_id;
}

// Recursion goes this deep; each level costs stack and a descriptor, and trees come from
// containers.
constexpr int kMaxRecursion = 32;

// A tree that is being emptied.
struct Emptying {
  int root;
  uint64_t mount;
  uint64_t hoisted = 0;  // Directories that were too deep and now lie in the root.
};

// Moves the directory `name` up into the root of the tree.
absl::Status Hoist(int directory, const std::string& name, const std::string& path,
                   Emptying* tree) {
  for (;;) {
    const std::string up = StrCat(".hoisted-", tree->hoisted++);
    if (renameat2(directory, name.c_str(), tree->root, up.c_str(), RENAME_NOREPLACE) == 0) {
      return absl::OkStatus();
    }
    if (errno == EBUSY) {
      return absl::FailedPreconditionError(StrCat("remove ", path, ": something is mounted there"));
    }
    if (errno != EEXIST) {
      return ErrnoStatus(errno, StrCat("remove ", path));
    }
  }
}

// Empties the directory `fd` and everything below it on the tree's mount, but for what it hoists.
absl::Status EmptyDirectory(UniqueFd fd, int depth, const std::string& path, Emptying* tree) {
  const int directory = fd.get();
  UniqueFd listing(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!listing.valid()) {
    return ErrnoStatus(errno, StrCat("open ", path));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(std::move(listing), path));
  for (const std::string& name : names) {
    if (unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) {
      continue;
    }
    if (errno != EISDIR && errno != EPERM) {
      return ErrnoStatus(errno, StrCat("remove ", path, "/", name));
    }
    const std::string child = StrCat(path, "/", name);
    if (depth == kMaxRecursion) {
      RETURN_IF_ERROR(Hoist(directory, name, child, tree));
      continue;
    }
    ASSIGN_OR_RETURN(UniqueFd below, OpenAt(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    ASSIGN_OR_RETURN(const uint64_t below_mount, MountIdOf(below.get(), "", child));
    if (below_mount != tree->mount) {
      return absl::FailedPreconditionError(
          StrCat("remove ", child, ": something is mounted there"));
    }
    RETURN_IF_ERROR(EmptyDirectory(std::move(below), depth + 1, child, tree));
    if (unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
      return ErrnoStatus(errno, StrCat("remove ", child));
    }
  }
  return absl::OkStatus();
}

// Empties the directory `fd` and everything below it on mount `mount`, however deep.
absl::Status EmptyTree(UniqueFd fd, uint64_t mount, const std::string& path) {
  Emptying tree = {.root = fd.get(), .mount = mount};
  for (uint64_t hoisted = 1; hoisted != 0;) {
    const uint64_t before = tree.hoisted;
    UniqueFd again(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    if (!again.valid()) {
      return ErrnoStatus(errno, StrCat("open ", path));
    }
    RETURN_IF_ERROR(EmptyDirectory(std::move(again), 0, path, &tree));
    hoisted = tree.hoisted - before;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueFd> Open(const std::string& path, int flags, mode_t mode) {
  return OpenAt(AT_FDCWD, path, flags, mode);
}

absl::StatusOr<UniqueFd> OpenAt(int directory, const std::string& path, int flags, mode_t mode) {
  UniqueFd fd(openat(directory, path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd.valid()) {
    return ErrnoStatus(errno, StrCat("open ", path));
  }
  return fd;
}

absl::StatusOr<UniqueFd> OpenBeneath(int directory, const std::string& path, int flags, mode_t mode,
                                     uint64_t resolve) {
  if ((resolve & RESOLVE_IN_ROOT) == 0) {
    resolve |= RESOLVE_BENEATH;
  }
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = resolve | RESOLVE_NO_MAGICLINKS;
  // The kernel answers EAGAIN when a rename raced with ".."; a few repeats settle it.
  for (int attempt = 0;; ++attempt) {
    UniqueFd fd(static_cast<int>(syscall(SYS_openat2, directory, path.c_str(), &how, sizeof(how))));
    if (fd.valid()) {
      return fd;
    }
    if (errno != EAGAIN || attempt == 32) {
      return ErrnoStatus(errno, StrCat("open ", path));
    }
  }
}

absl::StatusOr<std::string> ReadFd(int fd, std::string_view name, size_t max_bytes) {
  std::string content;
  char buffer[16384];
  for (;;) {
    const ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoStatus(errno, StrCat("read ", name));
    }
    if (got == 0) {
      return content;
    }
    content.append(buffer, static_cast<size_t>(got));
    if (content.size() > max_bytes) {
      return absl::ResourceExhaustedError(
          StrCat("read ", name, ": longer than ", max_bytes, " bytes"));
    }
  }
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  ASSIGN_OR_RETURN(const UniqueFd fd, Open(path, O_RDONLY | O_NOCTTY));
  return ReadFd(fd.get(), path, max_bytes);
}

absl::Status WriteAll(int fd, std::string_view data, std::string_view name) {
  while (!data.empty()) {
    const ssize_t written = write(fd, data.data(), data.size());
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return ErrnoStatus(errno, StrCat("write ", name));
    }
    data.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status WriteControlFile(const std::string& path, std::string_view data) {
  ASSIGN_OR_RETURN(const UniqueFd fd, Open(path, O_WRONLY | O_NOCTTY));
  if (write(fd.get(), data.data(), data.size()) < 0) {
    return ErrnoStatus(errno, StrCat("write \"", data, "\" to ", path));
  }
  return absl::OkStatus();
}

absl::Status ReplaceFile(const std::string& path, std::string_view data, mode_t mode,
                         Durability durability) {
  static std::atomic<uint64_t> counter = 0;
  const std::string temporary = StrCat(path, ".tmp-", getpid(), "-", counter.fetch_add(1));
  const absl::StatusOr<UniqueFd> fd = WriteTemporary(temporary, data, mode, durability);
  absl::Status status = fd.status();
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoStatus(errno, StrCat("rename to ", path));
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  // After the rename: the journal's commit that has the file's new name has the directory's entry
  // too, so that this one wait does for both.
  if (durability == Durability::kDurable && fsync(fd->get()) != 0) {
    return ErrnoStatus(errno, StrCat("fsync ", path));
  }
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  ASSIGN_OR_RETURN(const UniqueFd fd, Open(path, O_RDONLY | O_DIRECTORY));
  return fsync(fd.get()) == 0 ? absl::OkStatus() : ErrnoStatus(errno, StrCat("fsync ", path));
}

absl::Status MakeDirectories(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) == 0) {
    return absl::OkStatus();
  }
  if (errno == ENOENT && path != "/" && !path.empty()) {
    RETURN_IF_ERROR(MakeDirectories(ParentOf(path), mode));
    if (mkdir(path.c_str(), mode) == 0) {
      return absl::OkStatus();
    }
  }
  struct stat info;
  if (errno == EEXIST && stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno == EEXIST ? ENOTDIR : errno, StrCat("make the directory ", path));
}

absl::Status RemoveTree(const std::string& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) {
    return absl::OkStatus();
  }
  if (errno != EISDIR && errno != EPERM) {
    return ErrnoStatus(errno, StrCat("remove ", path));
  }
  ASSIGN_OR_RETURN(UniqueFd root, Open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  ASSIGN_OR_RETURN(const uint64_t mount, MountIdOf(root.get(), "", path));
  ASSIGN_OR_RETURN(const uint64_t parent_mount, MountIdOf(AT_FDCWD, ParentOf(path), path));
  if (mount != parent_mount) {
    return absl::FailedPreconditionError(StrCat("remove ", path, ": something is mounted there"));
  }
  RETURN_IF_ERROR(EmptyTree(std::move(root), mount, path));
  if (rmdir(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, StrCat("remove ", path));
  }
  return absl::OkStatus();
}

absl::Status RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, StrCat("remove ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd fd, Open(path, O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(std::vector<std::string> names, NamesIn(std::move(fd), path));
  std::sort(names.begin(), names.end());
  return names;
}

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

}  // namespace base
