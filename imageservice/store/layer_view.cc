#include "imageservice/store/layer_view.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/symlinks.h"

namespace imageservice {
namespace {

using base::UniqueFd;

constexpr uint64_t kResolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
constexpr size_t kMaxTarget = 4096;

// `directory` was opened for reading.
bool HasOpaqueMark(int directory) {
  char value = 0;
  return fgetxattr(directory, kOpaqueXattr, &value, 1) == 1 && value == 'y';
}

// Walks down `path` in the layer whose root is open as `root`.
absl::StatusOr<Sight> LookIn(int root, const std::string& path) {
  Sight sight;
  ASSIGN_OR_RETURN(UniqueFd at, OpenInLayer(root, ".", O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(sight.info, StatOf(at.get(), path));
  bool opaque = false;
  for (size_t begin = 0; path != "." && begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    opaque = opaque || HasOpaqueMark(at.get());
    absl::StatusOr<UniqueFd> next = OpenInLayer(at.get(), name, O_PATH);
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
      ASSIGN_OR_RETURN(at, OpenInLayer(at.get(), name, O_RDONLY | O_DIRECTORY));
    }
    begin = end + 1;
  }
  sight.kind = Sight::Kind::kShown;
  return sight;
}

}  // namespace

absl::StatusOr<UniqueFd> OpenInLayer(int root, const std::string& path, int flags) {
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

std::pair<std::string, std::string> SplitLast(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::pair(std::string("."), path)
                                    : std::pair(path.substr(0, slash), path.substr(slash + 1));
}

std::string JoinPath(const std::string& directory, std::string_view name) {
  if (name.empty()) {
    return directory;
  }
  return directory == "." ? std::string(name) : base::StrCat(directory, "/", name);
}

absl::StatusOr<LayerView> LayerView::Open(const std::string& directory,
                                          const std::vector<std::string>& lower) {
  LayerView view;
  ASSIGN_OR_RETURN(view.layer_, base::Open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  view.lower_ = &lower;
  return view;
}

absl::StatusOr<Sight> LayerView::Look(const std::string& path) const {
  return LookIn(layer_.get(), path);
}

absl::StatusOr<UniqueFd> LayerView::FindBelow(const std::string& path, struct stat* info) const {
  for (const std::string& directory : *lower_) {
    ASSIGN_OR_RETURN(UniqueFd root, base::Open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    ASSIGN_OR_RETURN(const Sight sight, LookIn(root.get(), path));
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

absl::StatusOr<bool> LayerView::IsOpaque(const std::string& path) const {
  for (size_t end = 0; path != "." && end != std::string::npos; end = path.find('/', end + 1)) {
    const std::string ancestor = end == 0 ? "." : path.substr(0, end);
    ASSIGN_OR_RETURN(const UniqueFd fd,
                     OpenInLayer(layer_.get(), ancestor, O_RDONLY | O_DIRECTORY));
    if (HasOpaqueMark(fd.get())) {
      return true;
    }
  }
  return false;
}

// The target when a symlink is seen at `path`, else nothing.
absl::StatusOr<std::string> LayerView::ReadSymlink(const std::string& path,
                                                   const std::string& ignored) const {
  Sight sight;
  if (path != ignored) {
    ASSIGN_OR_RETURN(sight, Look(path));
  }
  UniqueFd lower;
  if (sight.kind == Sight::Kind::kAbsent) {
    absl::StatusOr<UniqueFd> found = FindBelow(path, &sight.info);
    if (absl::IsNotFound(found.status())) {
      return "";
    }
    RETURN_IF_ERROR(found.status());
    lower = *std::move(found);
  }
  if (sight.kind == Sight::Kind::kHidden || !S_ISLNK(sight.info.st_mode)) {
    return "";
  }
  const int root = lower.valid() ? lower.get() : layer_.get();
  ASSIGN_OR_RETURN(const UniqueFd symlink, OpenInLayer(root, path, O_PATH));
  char target[kMaxTarget];
  const ssize_t size = readlinkat(symlink.get(), "", target, sizeof(target));
  if (size < 0) {
    return base::ErrnoStatus(errno, base::StrCat("read the symlink ", path));
  }
  return std::string(target, static_cast<size_t>(size));
}

absl::StatusOr<std::string> LayerView::Resolve(const std::string& path,
                                               const std::string& ignored) const {
  return base::ResolveSymlinks(path,
                               [&](const std::string& at) { return ReadSymlink(at, ignored); });
}

}  // namespace imageservice
