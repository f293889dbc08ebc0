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
constexpr uint64_t kLookupsPerStep = 3;  // Of LookIn: it opens each folder twice.
constexpr size_t kMaxRememberedBytes = 4 << 20;
constexpr size_t kMapNodeBytes = 100;  // What a path that is remembered costs beside its text.

// `directory` was opened for reading.
bool HasOpaqueMark(int directory) {
  char value = 0;
  return fgetxattr(directory, kOpaqueXattr, &value, 1) == 1 && value == 'y';
}

// What opening `path` costs the kernel: walking sixteen folders takes as long as the call itself.
uint64_t CostOf(const std::string& path) {
  return 1 + (static_cast<uint64_t>(std::ranges::count(path, '/')) / 16);
}

// Walks down `path` in the layer whose root is open as `root`; counts the `lookups` it takes.
absl::StatusOr<Sight> LookIn(int root, const std::string& path, uint64_t* lookups) {
  Sight sight;
  *lookups = 1;
  ASSIGN_OR_RETURN(UniqueFd at, OpenInLayer(root, ".", O_RDONLY | O_DIRECTORY));
  ASSIGN_OR_RETURN(sight.info, StatOf(at.get(), path));
  bool opaque = false;
  for (size_t begin = 0; path != "." && begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, end - begin);
    *lookups += kLookupsPerStep;
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
                                          const std::vector<std::string>& lower,
                                          uint64_t max_lookups) {
  LayerView view;
  ASSIGN_OR_RETURN(view.layer_, base::Open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  view.lower_ = &lower;
  view.roots_.resize(lower.size());
  view.max_lookups_ = max_lookups;
  return view;
}

absl::Status LayerView::Spend(uint64_t lookups) {
  lookups_ += lookups;
  if (lookups_ > max_lookups_) {
    return absl::ResourceExhaustedError(base::StrCat("the layer's last steps need more than ",
                                                     max_lookups_, " lookups in directories"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Sight> LayerView::Look(const std::string& path) {
  RETURN_IF_ERROR(Spend(0));
  uint64_t lookups = 0;
  absl::StatusOr<Sight> sight = LookIn(layer_.get(), path, &lookups);
  RETURN_IF_ERROR(Spend(lookups));
  return sight;
}

absl::StatusOr<int> LayerView::LowerRoot(size_t index) {
  UniqueFd& root = roots_[index];
  if (!root.valid()) {
    ASSIGN_OR_RETURN(root, base::Open((*lower_)[index], O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  }
  return root.get();
}

// Those of `parents`, which show the parent of `path`, that show `path` as a directory. They end
// where something hides what the ones below have in it.
absl::StatusOr<LayerView::Layers> LayerView::NarrowDown(const Layers& parents,
                                                        const std::string& path) {
  Layers layers;
  for (const uint16_t index : parents) {
    RETURN_IF_ERROR(Spend(2 * CostOf(path)));
    ASSIGN_OR_RETURN(const int root, LowerRoot(index));
    const absl::StatusOr<UniqueFd> found = OpenInLayer(root, path, O_PATH);
    if (absl::IsNotFound(found.status())) {
      continue;
    }
    RETURN_IF_ERROR(found.status());
    ASSIGN_OR_RETURN(const struct stat info, StatOf(found->get(), path));
    if (!S_ISDIR(info.st_mode)) {
      break;
    }
    layers.push_back(index);
    ASSIGN_OR_RETURN(const UniqueFd readable, OpenInLayer(root, path, O_RDONLY | O_DIRECTORY));
    if (HasOpaqueMark(readable.get())) {
      break;
    }
  }
  return layers;
}

// The lower layers in which something can be that shows in the directory `path`. Asking them one
// folder after the other, and remembering it, keeps deep paths below many layers cheap.
absl::StatusOr<LayerView::Layers> LayerView::DirectoryBelow(const std::string& path) {
  RETURN_IF_ERROR(Spend(1));
  size_t end = path == "." ? 0 : path.size();  // Of the folder that is looked at; 0: the root.
  auto known = directories_.find(path);
  while (known == directories_.end() && end != 0) {
    const size_t slash = path.rfind('/', end - 1);
    end = slash == std::string::npos ? 0 : slash;
    known = directories_.find(end == 0 ? "." : path.substr(0, end));
  }
  Layers layers;
  if (known != directories_.end()) {
    layers = known->second;
  } else {
    for (size_t index = 0; index < lower_->size(); ++index) {
      layers.push_back(static_cast<uint16_t>(index));
    }
    ASSIGN_OR_RETURN(layers, NarrowDown(layers, "."));
    Remember(".", layers);
  }
  while (path != "." && end < path.size() && !layers.empty()) {
    end = std::min(path.find('/', end == 0 ? 0 : end + 1), path.size());
    const std::string at = path.substr(0, end);
    ASSIGN_OR_RETURN(layers, NarrowDown(layers, at));
    Remember(at, layers);
  }
  return layers;
}

void LayerView::Remember(const std::string& path, const Layers& layers) {
  remembered_bytes_ += path.size() + (layers.size() * sizeof(uint16_t)) + kMapNodeBytes;
  if (remembered_bytes_ > kMaxRememberedBytes) {
    directories_.clear();
    remembered_bytes_ = 0;
  }
  directories_[path] = layers;
}

absl::StatusOr<int> LayerView::FindBelow(const std::string& path, struct stat* info) {
  ASSIGN_OR_RETURN(const Layers layers, DirectoryBelow(SplitLast(path).first));
  for (const uint16_t index : layers) {
    RETURN_IF_ERROR(Spend(CostOf(path)));
    ASSIGN_OR_RETURN(const int root, LowerRoot(index));
    const absl::StatusOr<UniqueFd> found = OpenInLayer(root, path, O_PATH);
    if (absl::IsNotFound(found.status())) {
      continue;
    }
    RETURN_IF_ERROR(found.status());
    ASSIGN_OR_RETURN(*info, StatOf(found->get(), path));
    if (IsWhiteout(*info)) {
      break;
    }
    return root;
  }
  return absl::NotFoundError(base::StrCat(path, " is in no lower layer"));
}

absl::StatusOr<bool> LayerView::IsOpaque(const std::string& path) {
  for (size_t end = 0; path != "." && end != std::string::npos; end = path.find('/', end + 1)) {
    const std::string ancestor = end == 0 ? "." : path.substr(0, end);
    RETURN_IF_ERROR(Spend(CostOf(ancestor)));
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
                                                   const std::string& ignored) {
  Sight sight;
  if (path != ignored) {
    ASSIGN_OR_RETURN(sight, Look(path));
  }
  int root = layer_.get();
  if (sight.kind == Sight::Kind::kAbsent) {
    const absl::StatusOr<int> found = FindBelow(path, &sight.info);
    if (absl::IsNotFound(found.status())) {
      return "";
    }
    RETURN_IF_ERROR(found.status());
    root = *found;
  }
  if (sight.kind == Sight::Kind::kHidden || !S_ISLNK(sight.info.st_mode)) {
    return "";
  }
  ASSIGN_OR_RETURN(const UniqueFd symlink, OpenInLayer(root, path, O_PATH));
  char target[kMaxTarget];
  const ssize_t size = readlinkat(symlink.get(), "", target, sizeof(target));
  if (size < 0) {
    return base::ErrnoStatus(errno, base::StrCat("read the symlink ", path));
  }
  return std::string(target, static_cast<size_t>(size));
}

absl::StatusOr<std::string> LayerView::Resolve(const std::string& path,
                                               const std::string& ignored) {
  return base::ResolveSymlinks(path,
                               [&](const std::string& at) { return ReadSymlink(at, ignored); });
}

}  // namespace imageservice
