#include "imageservice/declared_volumes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/symlinks.h"
#include "base/unique_fd.h"

namespace imageservice {
namespace {

constexpr int kMaxDepth = 100;
constexpr size_t kMaxAttributeBytes = 64 << 10;  // XATTR_LIST_MAX and XATTR_SIZE_MAX.

// The target of a symlink; empty for everything else.
absl::StatusOr<std::string> ReadLink(int directory, const std::string& name) {
  std::string target(PATH_MAX, '\0');
  const ssize_t size = readlinkat(directory, name.c_str(), target.data(), target.size());
  if (size < 0 && errno != EINVAL && errno != ENOENT && errno != ENOTDIR) {
    return base::ErrnoStatus(errno, name);
  }
  target.resize(size < 0 ? 0 : static_cast<size_t>(size));
  return target;
}

class TreeCopy {
 public:
  TreeCopy(const base::Context& ctx, int target_root) : ctx_(ctx), target_root_(target_root) {}

  // The content of the folder `from`, then what it is itself. `path`: from the root of the copy.
  absl::Status CopyContent(int from, int to, const std::string& path, int depth);

 private:
  absl::Status CopyEntry(int from, int to, const std::string& name, const std::string& path,
                         int depth);
  absl::Status CopyFolderEntry(int from, int to, const std::string& name, const std::string& path,
                               int depth);
  absl::Status CopyFile(int from, int to, const std::string& name, const struct stat& status);
  absl::Status CopyOther(int from, int to, const std::string& name, const struct stat& status);

  const base::Context& ctx_;
  const int target_root_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;  // Copied files with several names.
};

absl::Status CopyBytes(int from, int to, const std::string& name) {
  std::vector<char> buffer(64 << 10);
  ssize_t got;
  while ((got = read(from, buffer.data(), buffer.size())) > 0) {
    RETURN_IF_ERROR(
        base::WriteAll(to, std::string_view(buffer.data(), static_cast<size_t>(got)), name));
  }
  return got == 0 ? absl::OkStatus() : base::ErrnoStatus(errno, name);
}

absl::Status CopyAttributes(int from, int to, const std::string& name) {
  std::vector<char> names(kMaxAttributeBytes);
  const ssize_t size = flistxattr(from, names.data(), names.size());
  if (size < 0) {
    return errno == ENOTSUP ? absl::OkStatus() : base::ErrnoStatus(errno, name);
  }
  std::vector<char> value;
  for (const char* attribute = names.data(); attribute < names.data() + size;
       attribute += std::string_view(attribute).size() + 1) {
    value.resize(kMaxAttributeBytes);
    const ssize_t length = fgetxattr(from, attribute, value.data(), value.size());
    if (length < 0 || fsetxattr(to, attribute, value.data(), static_cast<size_t>(length), 0) != 0) {
      return base::ErrnoStatus(errno, base::StrCat(name, ": attribute ", attribute));
    }
  }
  return absl::OkStatus();
}

// Owner before mode and capabilities, which a change of owner takes away; times last.
absl::Status CopyMetadata(int from, int to, const std::string& name, const struct stat& status) {
  if (fchown(to, status.st_uid, status.st_gid) != 0 || fchmod(to, status.st_mode & 07777) != 0) {
    return base::ErrnoStatus(errno, name);
  }
  RETURN_IF_ERROR(CopyAttributes(from, to, name));
  const timespec times[2] = {status.st_atim, status.st_mtim};
  return futimens(to, times) == 0 ? absl::OkStatus() : base::ErrnoStatus(errno, name);
}

absl::Status TreeCopy::CopyContent(int from, int to, const std::string& path, int depth) {
  if (depth > kMaxDepth) {
    return absl::ResourceExhaustedError(base::StrCat(path, ": nested too deep"));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names,
                   base::ListDirectory(base::StrCat("/proc/self/fd/", from)));
  for (const std::string& name : names) {
    RETURN_IF_ERROR(ctx_.Check());
    RETURN_IF_ERROR(CopyEntry(from, to, name, path.empty() ? name : path + "/" + name, depth));
  }
  struct stat status = {};
  if (fstat(from, &status) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  return CopyMetadata(from, to, path, status);
}

absl::Status TreeCopy::CopyEntry(int from, int to, const std::string& name, const std::string& path,
                                 int depth) {
  struct stat status = {};
  if (fstatat(from, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  if (S_ISDIR(status.st_mode)) {
    return CopyFolderEntry(from, to, name, path, depth);
  }
  if (status.st_nlink > 1) {
    const auto [known, added] = linked_.emplace(std::pair(status.st_dev, status.st_ino), path);
    if (!added) {
      return linkat(target_root_, known->second.c_str(), to, name.c_str(), 0) == 0
                 ? absl::OkStatus()
                 : base::ErrnoStatus(errno, path);
    }
  }
  return S_ISREG(status.st_mode) ? CopyFile(from, to, name, status)
                                 : CopyOther(from, to, name, status);
}

absl::Status TreeCopy::CopyFolderEntry(int from, int to, const std::string& name,
                                       const std::string& path, int depth) {
  constexpr int kFolder = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  if (mkdirat(to, name.c_str(), 0700) != 0) {
    return base::ErrnoStatus(errno, path);
  }
  ASSIGN_OR_RETURN(const base::UniqueFd source, base::OpenAt(from, name, kFolder));
  ASSIGN_OR_RETURN(const base::UniqueFd target, base::OpenAt(to, name, kFolder));
  return CopyContent(source.get(), target.get(), path, depth + 1);
}

absl::Status TreeCopy::CopyFile(int from, int to, const std::string& name,
                                const struct stat& status) {
  ASSIGN_OR_RETURN(const base::UniqueFd source, base::OpenAt(from, name, O_RDONLY | O_NOFOLLOW));
  ASSIGN_OR_RETURN(const base::UniqueFd target,
                   base::OpenAt(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  RETURN_IF_ERROR(CopyBytes(source.get(), target.get(), name));
  return CopyMetadata(source.get(), target.get(), name, status);
}

absl::Status TreeCopy::CopyOther(int from, int to, const std::string& name,
                                 const struct stat& status) {
  if (S_ISLNK(status.st_mode)) {
    ASSIGN_OR_RETURN(const std::string link, ReadLink(from, name));
    if (symlinkat(link.c_str(), to, name.c_str()) != 0) {
      return base::ErrnoStatus(errno, name);
    }
  } else if (mknodat(to, name.c_str(), status.st_mode, status.st_rdev) != 0) {
    return base::ErrnoStatus(errno, name);
  }
  if (fchownat(to, name.c_str(), status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, name);
  }
  // Not one but the umask's; there is no symlink to follow.
  if (!S_ISLNK(status.st_mode) && fchmodat(to, name.c_str(), status.st_mode & 07777, 0) != 0) {
    return base::ErrnoStatus(errno, name);
  }
  const timespec times[2] = {status.st_atim, status.st_mtim};
  return utimensat(to, name.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0
             ? absl::OkStatus()
             : base::ErrnoStatus(errno, name);
}

}  // namespace

absl::StatusOr<std::string> MakeFolderBeneath(const std::string& root, const std::string& path) {
  constexpr int kFolder = O_PATH | O_DIRECTORY | O_NOFOLLOW;
  ASSIGN_OR_RETURN(base::UniqueFd folder, base::Open(root, kFolder));
  ASSIGN_OR_RETURN(std::string resolved,
                   base::ResolveSymlinks(path, [top = folder.get()](const std::string& link) {
                     return ReadLink(top, link);
                   }));
  for (const auto part : absl::StrSplit(resolved, '/')) {
    const std::string name(part);
    if (mkdirat(folder.get(), name.c_str(), 0755) != 0 && errno != EEXIST) {
      return base::ErrnoStatus(errno, path);
    }
    absl::StatusOr<base::UniqueFd> next = base::OpenAt(folder.get(), name, kFolder);
    if (!next.ok()) {
      return absl::FailedPreconditionError(base::StrCat(path, " is no folder"));
    }
    folder = *std::move(next);
  }
  return resolved;
}

absl::Status CopyFolder(const base::Context& ctx, const std::string& from, const std::string& to) {
  constexpr int kFolder = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  if (mkdir(to.c_str(), 0700) != 0) {
    return base::ErrnoStatus(errno, to);
  }
  ASSIGN_OR_RETURN(const base::UniqueFd source, base::Open(from, kFolder));
  ASSIGN_OR_RETURN(const base::UniqueFd target, base::Open(to, kFolder));
  return base::Annotate(TreeCopy(ctx, target.get()).CopyContent(source.get(), target.get(), "", 0),
                        base::StrCat("copy ", from));
}

}  // namespace imageservice
