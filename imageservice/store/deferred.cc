#include "imageservice/store/deferred.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <set>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "imageservice/store/layer_view.h"

namespace imageservice {
namespace {

using base::UniqueFd;
using Kind = worker::DeferredOperation::Kind;

constexpr size_t kMaxXattr = 64 << 10;  // The kernel's own limit.

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

// A folder of the layer in which something is made. The archive has said what time the folder has;
// what we make in it is no change of it.
class Folder {
 public:
  static absl::StatusOr<Folder> Open(int layer, const std::string& path) {
    Folder folder;
    folder.path_ = path;
    ASSIGN_OR_RETURN(folder.fd_, OpenInLayer(layer, path, O_RDONLY | O_DIRECTORY));
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

// What can be done to one layer.
class Operations {
 public:
  explicit Operations(LayerView view) : view_(std::move(view)) {}

  absl::Status SetOpaque(const std::string& path) const {
    ASSIGN_OR_RETURN(const UniqueFd fd, OpenInLayer(view_.root(), path, O_RDONLY | O_DIRECTORY));
    if (fsetxattr(fd.get(), kOpaqueXattr, "y", 1, 0) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("set ", kOpaqueXattr, " on ", path));
    }
    return absl::OkStatus();
  }

  // For a folder that no entry of the archive names. If the lower layers have a symlink there, its
  // content belongs where that leads, else it takes over the lower folder's metadata.
  absl::Status Imply(const std::string& path);
  absl::Status Link(const std::string& path, const std::string& target);
  absl::Status MakeNode(const std::string& path, const worker::DeferredOperation::Node& node) const;

 private:
  // Where `path` is after what Relocate has moved.
  absl::StatusOr<std::string> Moved(const std::string& path);
  absl::Status ImplyAt(const std::string& path);
  absl::Status InheritMetadata(const std::string& path, int lower_root) const;
  absl::Status Relocate(const std::string& path);
  absl::Status MakeImplied(const std::string& path);

  LayerView view_;
  std::vector<std::pair<std::string, std::string>> moved_;  // Folders: from, to.
  std::set<std::string> merged_;  // Folders there that were in the archive by this name, too.
};

absl::Status Operations::Imply(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string moved, Moved(path));
  return moved != path && merged_.contains(moved) ? absl::OkStatus() : ImplyAt(moved);
}

absl::Status Operations::ImplyAt(const std::string& path) {
  ASSIGN_OR_RETURN(const bool is_hidden, view_.IsOpaque(path));
  if (is_hidden) {
    return absl::OkStatus();
  }
  struct stat info = {};
  const absl::StatusOr<int> root = view_.FindBelow(path, &info);
  if (absl::IsNotFound(root.status())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(root.status());
  if (S_ISDIR(info.st_mode)) {
    return InheritMetadata(path, *root);
  }
  return S_ISLNK(info.st_mode) ? Relocate(path) : absl::OkStatus();
}

absl::Status Operations::InheritMetadata(const std::string& path, int lower_root) const {
  ASSIGN_OR_RETURN(const UniqueFd from, OpenInLayer(lower_root, path, O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(const UniqueFd to, OpenInLayer(view_.root(), path, O_RDONLY | O_DIRECTORY));
  return CopyMetadata(from.get(), to.get(), path);
}

absl::Status Operations::Link(const std::string& path, const std::string& asked_target) {
  // The parser has followed this layer's symlinks, but it knows no lower ones.
  const auto [asked_parent, asked_name] = SplitLast(asked_target);
  ASSIGN_OR_RETURN(const std::string real_parent, view_.Resolve(asked_parent, ""));
  ASSIGN_OR_RETURN(const Sight asked, view_.Look(asked_target));
  const std::string target =
      asked.kind == Sight::Kind::kShown ? asked_target : JoinPath(real_parent, asked_name);
  ASSIGN_OR_RETURN(Sight sight, view_.Look(target));
  int source_root = view_.root();
  if (sight.kind != Sight::Kind::kShown) {
    if (sight.kind == Sight::Kind::kHidden) {
      return absl::NotFoundError(base::StrCat(target, " is deleted by this layer"));
    }
    ASSIGN_OR_RETURN(source_root, view_.FindBelow(target, &sight.info));
  }
  if (S_ISDIR(sight.info.st_mode)) {
    return absl::InvalidArgumentError(base::StrCat(target, " is a directory"));
  }
  const auto [source_parent, source_name] = SplitLast(target);
  const auto [parent, name] = SplitLast(path);
  ASSIGN_OR_RETURN(const UniqueFd from,
                   OpenInLayer(source_root, source_parent, O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(const Folder to, Folder::Open(view_.root(), parent));
  if (linkat(from.get(), source_name.c_str(), to.fd(), name.c_str(), 0) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("link it to ", target));
  }
  return to.RestoreTimes();
}

absl::Status Operations::MakeNode(const std::string& path,
                                  const worker::DeferredOperation::Node& node) const {
  const auto [parent, name] = SplitLast(path);
  ASSIGN_OR_RETURN(const Folder to, Folder::Open(view_.root(), parent));
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

absl::StatusOr<std::string> Operations::Moved(const std::string& path) {
  RETURN_IF_ERROR(view_.Spend(moved_.size()));
  std::string at = path;
  for (const auto& [from, to] : moved_) {
    if (at == from || at.starts_with(from + "/")) {
      at = JoinPath(to, std::string_view(at).substr(std::min(from.size() + 1, at.size())));
    }
  }
  return at;
}

// Makes the folder `path` of this layer and those above it, as far as they are missing, like the
// lower layers' folders of these names.
absl::Status Operations::MakeImplied(const std::string& path) {
  for (size_t end = 0; path != "." && end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string at = path.substr(0, end);
    const auto [parent, name] = SplitLast(at);
    ASSIGN_OR_RETURN(const Folder folder, Folder::Open(view_.root(), parent));
    if (mkdirat(folder.fd(), name.c_str(), 0755) == 0) {
      RETURN_IF_ERROR(ImplyAt(at));
      RETURN_IF_ERROR(folder.RestoreTimes());
    } else if (errno != EEXIST) {
      return base::ErrnoStatus(errno, base::StrCat("make the folder ", at));
    }
  }
  return absl::OkStatus();
}

// Moves what is in one folder into another one. Folders that both have are merged; what else both
// have is an error, for nobody can say any more which of them came last. `path` is that of `to`;
// adds to `merged` the folders that were there.
absl::Status MergeInto(int from, int to, const std::string& path, std::set<std::string>* merged) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names,
                   base::ListDirectory(base::StrCat("/proc/self/fd/", from)));
  for (const std::string& name : names) {
    if (renameat2(from, name.c_str(), to, name.c_str(), RENAME_NOREPLACE) == 0) {
      continue;
    }
    const std::string at = JoinPath(path, name);
    if (errno != EEXIST) {
      return base::ErrnoStatus(errno, base::StrCat("move ", at));
    }
    ASSIGN_OR_RETURN(const UniqueFd from_child, OpenInLayer(from, name, O_PATH));
    ASSIGN_OR_RETURN(const UniqueFd to_child, OpenInLayer(to, name, O_PATH));
    ASSIGN_OR_RETURN(const struct stat from_info, StatOf(from_child.get(), at));
    ASSIGN_OR_RETURN(const struct stat to_info, StatOf(to_child.get(), at));
    if (IsWhiteout(from_info)) {
      // It is for lower layers: what this one has stays.
      if (unlinkat(from, name.c_str(), 0) != 0) {
        return base::ErrnoStatus(errno, base::StrCat("remove ", at));
      }
      continue;
    }
    if (!S_ISDIR(from_info.st_mode) || !S_ISDIR(to_info.st_mode)) {
      return absl::InvalidArgumentError(
          base::StrCat(at, " is in the archive twice, once through a symlink of a lower layer"));
    }
    ASSIGN_OR_RETURN(const UniqueFd source, OpenInLayer(from, name, O_RDONLY | O_DIRECTORY));
    ASSIGN_OR_RETURN(const Folder target, Folder::Open(to, name));
    RETURN_IF_ERROR(MergeInto(source.get(), target.fd(), at, merged));
    RETURN_IF_ERROR(target.RestoreTimes());
    merged->insert(at);
    if (unlinkat(from, name.c_str(), AT_REMOVEDIR) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("remove ", at));
    }
  }
  return absl::OkStatus();
}

// An entry "lib/x" of a layer without an entry "lib", above a layer where "lib" is a symlink,
// belongs where the symlink leads, as if it had been unpacked on top of that layer.
absl::Status Operations::Relocate(const std::string& path) {
  const auto [parent, name] = SplitLast(path);
  ASSIGN_OR_RETURN(const Folder folder, Folder::Open(view_.root(), parent));
  ASSIGN_OR_RETURN(const UniqueFd content, OpenInLayer(folder.fd(), name, O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(const std::string target, view_.Resolve(path, path));
  RETURN_IF_ERROR(MakeImplied(target));
  ASSIGN_OR_RETURN(const Folder to, Folder::Open(view_.root(), target));
  RETURN_IF_ERROR(MergeInto(content.get(), to.fd(), target, &merged_));
  if (unlinkat(folder.fd(), name.c_str(), AT_REMOVEDIR) != 0) {
    return base::ErrnoStatus(errno, "remove the folder that hides a symlink");
  }
  moved_.emplace_back(path, target);
  RETURN_IF_ERROR(to.RestoreTimes());
  return folder.RestoreTimes();
}

absl::Status ApplyOne(const worker::DeferredOperation& operation, Operations* layer) {
  switch (operation.kind) {
    case Kind::kOpaque:
      return base::Annotate(layer->SetOpaque(operation.path),
                            base::StrCat("opaque directory ", operation.path));
    case Kind::kCopyMetadata:
      return base::Annotate(layer->Imply(operation.path),
                            base::StrCat("directory ", operation.path));
    case Kind::kHardLink:
      return base::Annotate(layer->Link(operation.path, operation.target),
                            base::StrCat("hard link ", operation.path));
    case Kind::kNode:
      return base::Annotate(layer->MakeNode(operation.path, operation.node),
                            base::StrCat("device ", operation.path));
  }
  return absl::InternalError("an unknown operation");
}

}  // namespace

absl::Status ApplyDeferred(const base::Context& ctx, const std::string& directory,
                           const std::vector<std::string>& lower,
                           const std::vector<worker::DeferredOperation>& operations,
                           uint64_t max_lookups) {
  if (operations.empty()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(LayerView view, LayerView::Open(directory, lower, max_lookups));
  Operations layer(std::move(view));
  // Opaque marks first: the others ask what they hide.
  for (const bool opaque : {true, false}) {
    for (const worker::DeferredOperation& operation : operations) {
      RETURN_IF_ERROR(ctx.Check());
      if ((operation.kind == Kind::kOpaque) == opaque) {
        RETURN_IF_ERROR(ApplyOne(operation, &layer));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace imageservice
