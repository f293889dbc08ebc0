#include "imageservice/store/deferred.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace imageservice {
namespace {

using base::UniqueFd;
using Kind = worker::DeferredOperation::Kind;

constexpr char kOpaque[] = "trusted.overlay.opaque";
constexpr uint64_t kResolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
constexpr size_t kMaxXattr = 64 << 10;  // The kernel's own limit.

absl::StatusOr<UniqueFd> OpenIn(int root, const std::string& path, int flags) {
  return base::OpenBeneath(root, path, flags | O_NOFOLLOW, 0, kResolve);
}

absl::StatusOr<struct stat> StatOf(int fd, std::string_view name) {
  struct stat info;
  if (fstat(fd, &info) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("stat ", name));
  }
  return info;
}

bool IsWhiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == 0; }

// `directory` was opened for reading.
bool IsOpaque(int directory) {
  char value = 0;
  return fgetxattr(directory, kOpaque, &value, 1) == 1 && value == 'y';
}

std::pair<std::string, std::string> SplitLast(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::pair(std::string("."), path)
                                    : std::pair(path.substr(0, slash), path.substr(slash + 1));
}

// What one layer says about a path.
struct Sight {
  enum class Kind {
    kShown,   // The path is there.
    kHidden,  // It is not, and nothing below this layer shows through.
    kAbsent,  // The layers below decide.
  };
  Kind kind = Kind::kAbsent;
  struct stat info = {};
};

// Walks down `path` in the layer whose root is open as `root`.
absl::StatusOr<Sight> Look(int root, const std::string& path) {
  Sight sight;
  ASSIGN_OR_RETURN(UniqueFd at, OpenIn(root, ".", O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(sight.info, StatOf(at.get(), path));
  bool opaque = false;
  for (size_t begin = 0; path != "." && begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    opaque = opaque || IsOpaque(at.get());
    absl::StatusOr<UniqueFd> next = OpenIn(at.get(), name, O_PATH);
    if (absl::IsNotFound(next.status())) {
      sight.kind = opaque ? Sight::Kind::kHidden : Sight::Kind::kAbsent;
      return sight;
    }
    RETURN_IF_ERROR(next.status());
    ASSIGN_OR_RETURN(sight.info, StatOf(next->get(), path));
    const bool last = end == path.size();
    if (IsWhiteout(sight.info) || (!last && !S_ISDIR(sight.info.st_mode))) {
      sight.kind = Sight::Kind::kHidden;
      return sight;
    }
    if (!last) {
      ASSIGN_OR_RETURN(at, OpenIn(at.get(), name, O_RDONLY | O_DIRECTORY));
    }
    begin = end + 1;
  }
  sight.kind = Sight::Kind::kShown;
  return sight;
}

// Copies every extended attribute but those that steer the overlay or come from the mount.
absl::Status CopyXattrs(int from, int to, const std::string& path) {
  std::string names(kMaxXattr, '\0');
  const ssize_t listed = flistxattr(from, names.data(), names.size());
  if (listed < 0) {
    return errno == ENOTSUP ? absl::OkStatus()
                            : base::ErrnoStatus(errno, base::StrCat("list attributes of ", path));
  }
  names.resize(static_cast<size_t>(listed));
  std::string value(kMaxXattr, '\0');
  for (size_t at = 0; at < names.size(); at += std::string_view(names.c_str() + at).size() + 1) {
    const char* name = names.c_str() + at;
    const std::string_view text(name);
    if (text.substr(0, 16) == "trusted.overlay." || text == "security.selinux") {
      continue;
    }
    const ssize_t size = fgetxattr(from, name, value.data(), value.size());
    if (size < 0 || fsetxattr(to, name, value.data(), static_cast<size_t>(size), 0) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("copy attribute ", name, " of ", path));
    }
  }
  return absl::OkStatus();
}

absl::Status CopyMetadata(int from, int to, const std::string& path) {
  ASSIGN_OR_RETURN(const struct stat info, StatOf(from, path));
  if (fchown(to, info.st_uid, info.st_gid) != 0 || fchmod(to, info.st_mode & 07777) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("copy owner and mode of ", path));
  }
  RETURN_IF_ERROR(CopyXattrs(from, to, path));
  const timespec times[] = {info.st_atim, info.st_mtim};
  if (futimens(to, times) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("copy the times of ", path));
  }
  return absl::OkStatus();
}

// One layer and those below it, open.
class LayerStack {
 public:
  static absl::StatusOr<LayerStack> Open(const std::string& directory,
                                         const std::vector<std::string>& lower) {
    LayerStack stack;
    ASSIGN_OR_RETURN(stack.layer_, base::Open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    stack.lower_ = &lower;
    return stack;
  }

  absl::Status SetOpaque(const std::string& path) const {
    ASSIGN_OR_RETURN(const UniqueFd fd, OpenIn(layer_.get(), path, O_RDONLY | O_DIRECTORY));
    if (fsetxattr(fd.get(), kOpaque, "y", 1, 0) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("set ", kOpaque, " on ", path));
    }
    return absl::OkStatus();
  }

  absl::Status InheritMetadata(const std::string& path) const;
  absl::Status Link(const std::string& path, const std::string& target) const;
  absl::Status MakeNode(const std::string& path, const worker::DeferredOperation::Node& node) const;

 private:
  // The root of the topmost lower layer that shows `path`; NOT_FOUND if none does.
  absl::StatusOr<UniqueFd> FindBelow(const std::string& path, struct stat* info) const;

  UniqueFd layer_;
  const std::vector<std::string>* lower_ = nullptr;
};

// A folder of the layer in which something is made. The archive has said what time the folder has;
// what we make in it is no change of it.
class Folder {
 public:
  static absl::StatusOr<Folder> Open(int layer, const std::string& path) {
    Folder folder;
    folder.path_ = path;
    ASSIGN_OR_RETURN(folder.fd_, OpenIn(layer, path, O_RDONLY | O_DIRECTORY));
    ASSIGN_OR_RETURN(folder.before_, StatOf(folder.fd_.get(), path));
    return folder;
  }
  int fd() const { return fd_.get(); }

  absl::Status RestoreTimes() const {
    const timespec times[] = {before_.st_atim, before_.st_mtim};
    if (futimens(fd_.get(), times) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("restore the times of ", path_));
    }
    return absl::OkStatus();
  }

 private:
  UniqueFd fd_;
  std::string path_;
  struct stat before_ = {};
};

absl::StatusOr<UniqueFd> LayerStack::FindBelow(const std::string& path, struct stat* info) const {
  for (const std::string& directory : *lower_) {
    ASSIGN_OR_RETURN(UniqueFd root, base::Open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    ASSIGN_OR_RETURN(const Sight sight, Look(root.get(), path));
    if (sight.kind == Sight::Kind::kHidden) {
      break;
    }
    if (sight.kind == Sight::Kind::kShown) {
      *info = sight.info;
      return root;
    }
  }
  return absl::NotFoundError(base::StrCat(path, " is in no lower layer"));
}

absl::Status LayerStack::InheritMetadata(const std::string& path) const {
  // An opaque ancestor in this layer hides what the lower ones have.
  for (size_t end = 0; path != "." && end != std::string::npos; end = path.find('/', end + 1)) {
    const std::string ancestor = end == 0 ? "." : path.substr(0, end);
    ASSIGN_OR_RETURN(const UniqueFd fd, OpenIn(layer_.get(), ancestor, O_RDONLY | O_DIRECTORY));
    if (IsOpaque(fd.get())) {
      return absl::OkStatus();
    }
  }
  struct stat info = {};
  const absl::StatusOr<UniqueFd> root = FindBelow(path, &info);
  if (absl::IsNotFound(root.status()) || (root.ok() && !S_ISDIR(info.st_mode))) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(root.status());
  ASSIGN_OR_RETURN(const UniqueFd from, OpenIn(root->get(), path, O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(const UniqueFd to, OpenIn(layer_.get(), path, O_RDONLY | O_DIRECTORY));
  return CopyMetadata(from.get(), to.get(), path);
}

absl::Status LayerStack::Link(const std::string& path, const std::string& target) const {
  ASSIGN_OR_RETURN(Sight sight, Look(layer_.get(), target));
  int source_root = layer_.get();
  UniqueFd lower;
  if (sight.kind != Sight::Kind::kShown) {
    if (sight.kind == Sight::Kind::kHidden) {
      return absl::NotFoundError(base::StrCat(target, " is deleted by this layer"));
    }
    ASSIGN_OR_RETURN(lower, FindBelow(target, &sight.info));
    source_root = lower.get();
  }
  if (S_ISDIR(sight.info.st_mode)) {
    return absl::InvalidArgumentError(base::StrCat(target, " is a directory"));
  }
  const auto [source_parent, source_name] = SplitLast(target);
  const auto [parent, name] = SplitLast(path);
  ASSIGN_OR_RETURN(const UniqueFd from, OpenIn(source_root, source_parent, O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(const Folder to, Folder::Open(layer_.get(), parent));
  if (linkat(from.get(), source_name.c_str(), to.fd(), name.c_str(), 0) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("link it to ", target));
  }
  return to.RestoreTimes();
}

absl::Status LayerStack::MakeNode(const std::string& path,
                                  const worker::DeferredOperation::Node& node) const {
  const auto [parent, name] = SplitLast(path);
  ASSIGN_OR_RETURN(const Folder to, Folder::Open(layer_.get(), parent));
  const mode_t type = node.is_block ? S_IFBLK : S_IFCHR;
  // Nobody else can come between: the folder is out of the worker's reach.
  if (mknodat(to.fd(), name.c_str(), type | 0600, makedev(node.major, node.minor)) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("make the node ", node.major, ":", node.minor));
  }
  const timespec times[] = {node.mtime, node.mtime};
  if (fchownat(to.fd(), name.c_str(), node.uid, node.gid, AT_SYMLINK_NOFOLLOW) != 0 ||
      fchmodat(to.fd(), name.c_str(), node.mode & 07777, 0) != 0 ||
      utimensat(to.fd(), name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, "set owner, mode and times");
  }
  return to.RestoreTimes();
}

absl::Status ApplyOne(const LayerStack& stack, const worker::DeferredOperation& operation) {
  switch (operation.kind) {
    case Kind::kOpaque:
      return base::Annotate(stack.SetOpaque(operation.path),
                            base::StrCat("opaque directory ", operation.path));
    case Kind::kCopyMetadata:
      return base::Annotate(stack.InheritMetadata(operation.path),
                            base::StrCat("directory ", operation.path));
    case Kind::kHardLink:
      return base::Annotate(stack.Link(operation.path, operation.target),
                            base::StrCat("hard link ", operation.path));
    case Kind::kNode:
      return base::Annotate(stack.MakeNode(operation.path, operation.node),
                            base::StrCat("device ", operation.path));
  }
  return absl::InternalError("an unknown operation");
}

}  // namespace

absl::Status ApplyDeferred(const std::string& directory, const std::vector<std::string>& lower,
                           const std::vector<worker::DeferredOperation>& operations) {
  if (operations.empty()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const LayerStack stack, LayerStack::Open(directory, lower));
  // Opaque marks first: the others ask what they hide.
  for (const bool opaque : {true, false}) {
    for (const worker::DeferredOperation& operation : operations) {
      if ((operation.kind == Kind::kOpaque) == opaque) {
        RETURN_IF_ERROR(ApplyOne(stack, operation));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace imageservice
