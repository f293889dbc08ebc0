#include "imageservice/worker/layer_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/file_metadata.h"

namespace imageservice::worker {
namespace {

constexpr size_t kMaxPath = 4095;
constexpr size_t kMaxDepth = 256;
constexpr size_t kMaxTrackedBytes = 128 << 20;
constexpr size_t kMaxDeferredBytes = 6 << 20;  // Fits a frame of the protocol, escaped.
constexpr uint64_t kBlock = 512;

int OpenBeneath(int root, const std::string& path, int flags) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how)));
}

std::string Parent(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string Name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool IsWhiteout(const struct stat& found) {
  return S_ISCHR(found.st_mode) && found.st_rdev == makedev(0, 0);
}

// Erases from a map or set of paths `path` and what is below it.
template <typename Paths>
void EraseTree(Paths* paths, const std::string& path) {
  paths->erase(path);
  const std::string below = path + "/";
  auto it = paths->lower_bound(below);
  while (it != paths->end()) {
    if constexpr (std::is_same_v<Paths, std::set<std::string>>) {
      if (!it->starts_with(below)) break;
    } else {
      if (!it->first.starts_with(below)) break;
    }
    it = paths->erase(it);
  }
}

}  // namespace

absl::StatusOr<std::string> CleanEntryPath(std::string_view path) {
  std::vector<std::string_view> components;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, end - begin);
    begin = end + 1;
    if (component.empty() || component == ".") {
      continue;
    }
    if (component != "..") {
      components.push_back(component);
    } else if (components.empty()) {
      return absl::InvalidArgumentError("the path leads out of the layer");
    } else {
      components.pop_back();
    }
  }
  if (components.size() > kMaxDepth) {
    return absl::InvalidArgumentError(base::StrCat("the path has more than ", kMaxDepth, " parts"));
  }
  std::string clean;
  for (const std::string_view component : components) {
    clean += clean.empty() ? "" : "/";
    clean += component;
  }
  if (clean.size() > kMaxPath) {
    return absl::InvalidArgumentError(base::StrCat("the path is longer than ", kMaxPath, " bytes"));
  }
  return clean.empty() ? "." : clean;
}

// The descriptor stays ours, valid until the next call.
absl::StatusOr<int> LayerTree::OpenDirectory(const std::string& path) {
  if (path == ".") {
    return root_;
  }
  if (!cached_.valid() || cached_path_ != path) {
    cached_.Reset(OpenBeneath(root_, path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    cached_path_ = path;
  }
  if (!cached_.valid()) {
    return base::ErrnoStatus(errno, "open the directory");
  }
  return cached_.get();
}

// Where `path` is to be created; makes the parents it lacks.
absl::StatusOr<LayerTree::Place> LayerTree::FindPlace(const std::string& path) {
  if (path == ".") {
    return absl::InvalidArgumentError("the root can only be a directory");
  }
  const std::string parent = Parent(path);
  absl::StatusOr<int> directory = OpenDirectory(parent);
  if (!directory.ok()) {
    RETURN_IF_ERROR(MakeParents(path));
    directory = OpenDirectory(parent);
  }
  RETURN_IF_ERROR(directory.status());
  return Place{*directory, Name(path)};
}

absl::Status LayerTree::MakeParents(const std::string& path) {
  for (size_t slash = path.find('/'); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string directory = path.substr(0, slash);
    ASSIGN_OR_RETURN(const int parent, OpenDirectory(Parent(directory)));
    const Place place = {parent, Name(directory)};
    struct stat found = {};
    ASSIGN_OR_RETURN(const Previous previous, Look(place, &found));
    if (previous == Previous::kDirectory) {
      continue;
    }
    if (previous == Previous::kOther) {
      return absl::InvalidArgumentError(
          base::StrCat("its parent \"", directory, "\" is ",
                       S_ISLNK(found.st_mode) ? "a symlink" : "no directory", " in this layer"));
    }
    RETURN_IF_ERROR(MakeDirectory(directory, place, previous));
    RETURN_IF_ERROR(Track(directory));
    implicit_.insert(directory);
  }
  return absl::OkStatus();
}

absl::StatusOr<LayerTree::Previous> LayerTree::Look(const Place& place, struct stat* found) const {
  struct stat buffer = {};
  if (found == nullptr) {
    found = &buffer;
  }
  if (fstatat(place.parent, place.name.c_str(), found, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) {
      return Previous::kNothing;
    }
    return base::ErrnoStatus(errno, "look at what is there");
  }
  if (S_ISDIR(found->st_mode)) {
    return Previous::kDirectory;
  }
  return IsWhiteout(*found) ? Previous::kWhiteout : Previous::kOther;
}

// An empty place for something that is no directory.
absl::StatusOr<LayerTree::Place> LayerTree::Vacate(const std::string& path) {
  ASSIGN_OR_RETURN(Place place, FindPlace(path));
  ASSIGN_OR_RETURN(const Previous previous, Look(place));
  if (previous == Previous::kDirectory) {
    Forget(path);
    RETURN_IF_ERROR(RemoveContent(place.parent, place.name));
    // The directory that was opened last may have been one of those removed.
    return FindPlace(path);
  }
  if (previous != Previous::kNothing) {
    RETURN_IF_ERROR(Remove(place.parent, place.name));
  }
  links_.erase(path);
  return place;
}

absl::Status LayerTree::MakeDirectory(const std::string& path, const Place& place,
                                      Previous previous) {
  if (previous != Previous::kNothing) {
    RETURN_IF_ERROR(Remove(place.parent, place.name));
    // What stood here hid the lower layers' directory of this name; the new one must go on doing
    // so.
    RETURN_IF_ERROR(Track(path));
    opaque_.insert(path);
  }
  links_.erase(path);
  if (mkdirat(place.parent, place.name.c_str(), 0755) != 0) {
    return base::ErrnoStatus(errno, "make the directory");
  }
  Count(place.parent, place.name);
  return absl::OkStatus();
}

// Removes one thing that is no directory, or an empty directory.
absl::Status LayerTree::Remove(int parent, const std::string& name) {
  struct stat found = {};
  if (fstatat(parent, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, "look at what is replaced");
  }
  if (unlinkat(parent, name.c_str(), S_ISDIR(found.st_mode) ? AT_REMOVEDIR : 0) != 0) {
    return base::ErrnoStatus(errno, "remove what is replaced");
  }
  if (S_ISDIR(found.st_mode) || found.st_nlink == 1) {
    inodes_ -= 1;
    bytes_ -= std::min(bytes_, static_cast<uint64_t>(found.st_blocks) * kBlock);
  }
  return absl::OkStatus();
}

// Removes a directory with all it holds. Recursion ends at kMaxDepth, which every path obeys.
absl::Status LayerTree::RemoveContent(int parent, const std::string& name) {
  const int fd = openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    return base::ErrnoStatus(errno, "open the directory that is replaced");
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(fdopendir(fd), closedir);
  std::vector<std::pair<std::string, bool>> entries;
  while (const dirent* entry = readdir(directory.get())) {
    const std::string_view child = entry->d_name;
    if (child != "." && child != "..") {
      struct stat found = {};
      if (fstatat(fd, entry->d_name, &found, AT_SYMLINK_NOFOLLOW) != 0) {
        return base::ErrnoStatus(errno, "look at what is replaced");
      }
      entries.emplace_back(child, S_ISDIR(found.st_mode));
    }
  }
  for (const auto& [child, is_directory] : entries) {
    RETURN_IF_ERROR(is_directory ? RemoveContent(fd, child) : Remove(fd, child));
  }
  return Remove(parent, name);
}

// Drops what is remembered of `path` and everything below: it is about to be removed.
void LayerTree::Forget(const std::string& path) {
  EraseTree(&directory_times_, path);
  EraseTree(&implicit_, path);
  EraseTree(&opaque_, path);
  EraseTree(&links_, path);
  cached_.Reset();
}

absl::Status LayerTree::Track(const std::string& path) {
  tracked_bytes_ += path.size() + 100;
  if (tracked_bytes_ > kMaxTrackedBytes) {
    return absl::ResourceExhaustedError("the layer has too many directories");
  }
  return absl::OkStatus();
}

// Counts a new inode. Data written later is counted by CompleteFile.
void LayerTree::Count(int parent, const std::string& name) {
  struct stat found = {};
  ++inodes_;
  if (fstatat(parent, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0) {
    bytes_ += static_cast<uint64_t>(found.st_blocks) * kBlock;
  }
}

absl::Status LayerTree::AddDirectory(const std::string& path, const FileMetadata& metadata) {
  if (path != ".") {
    ASSIGN_OR_RETURN(const Place place, FindPlace(path));
    ASSIGN_OR_RETURN(const Previous previous, Look(place));
    if (previous != Previous::kDirectory) {
      RETURN_IF_ERROR(MakeDirectory(path, place, previous));
    }
  }
  const base::UniqueFd directory(OpenBeneath(root_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (!directory.valid()) {
    return base::ErrnoStatus(errno, "open the directory");
  }
  RETURN_IF_ERROR(ApplyMetadata(directory.get(), metadata, Times::kLater));
  RETURN_IF_ERROR(Track(path));
  implicit_.erase(path);
  directory_times_[path] = {metadata.atime, metadata.mtime};
  return absl::OkStatus();
}

absl::StatusOr<base::UniqueFd> LayerTree::AddFile(const std::string& path) {
  ASSIGN_OR_RETURN(const Place place, Vacate(path));
  base::UniqueFd file(openat(place.parent, place.name.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return base::ErrnoStatus(errno, "create the file");
  }
  ++inodes_;
  return file;
}

absl::Status LayerTree::CompleteFile(int file, const FileMetadata& metadata) {
  RETURN_IF_ERROR(ApplyMetadata(file, metadata, Times::kNow));
  struct stat found = {};
  if (fstat(file, &found) == 0) {
    bytes_ += static_cast<uint64_t>(found.st_blocks) * kBlock;
  }
  return absl::OkStatus();
}

absl::Status LayerTree::AddSymlink(const std::string& path, const std::string& target,
                                   const FileMetadata& metadata) {
  ASSIGN_OR_RETURN(const Place place, Vacate(path));
  if (symlinkat(target.c_str(), place.parent, place.name.c_str()) != 0) {
    return base::ErrnoStatus(errno, "make the symlink");
  }
  Count(place.parent, place.name);
  return ApplyMetadataAt(place.parent, place.name, S_IFLNK, metadata);
}

absl::Status LayerTree::AddNode(const std::string& path, mode_t type, dev_t device,
                                const FileMetadata& metadata) {
  ASSIGN_OR_RETURN(const Place place, Vacate(path));
  if (mknodat(place.parent, place.name.c_str(), type | 0600, device) != 0) {
    return base::ErrnoStatus(errno, "make the node");
  }
  Count(place.parent, place.name);
  return ApplyMetadataAt(place.parent, place.name, type, metadata);
}

absl::Status LayerTree::AddHardLink(const std::string& path, const std::string& target) {
  if (path == target) {
    ASSIGN_OR_RETURN(const Place itself, FindPlace(path));
    ASSIGN_OR_RETURN(const Previous previous, Look(itself));
    if (previous == Previous::kOther) {
      return absl::OkStatus();
    }
  }
  ASSIGN_OR_RETURN(const Place place, Vacate(path));
  // Opened beside the cache: `place` lives in that.
  const base::UniqueFd source(OpenBeneath(root_, Parent(target), O_PATH | O_DIRECTORY));
  struct stat found = {};
  if (source.valid() && target != "." &&
      fstatat(source.get(), Name(target).c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0) {
    if (S_ISDIR(found.st_mode) || IsWhiteout(found)) {
      return absl::InvalidArgumentError(
          base::StrCat("a hard link to \"", target, "\", which is ",
                       S_ISDIR(found.st_mode) ? "a directory" : "deleted"));
    }
    if (linkat(source.get(), Name(target).c_str(), place.parent, place.name.c_str(), 0) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("link \"", target, "\""));
    }
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Track(path));
  RETURN_IF_ERROR(Track(target));
  links_[path] = {links_seen_++, target};
  return absl::OkStatus();
}

absl::Status LayerTree::AddWhiteout(const std::string& path) {
  ASSIGN_OR_RETURN(const Place place, FindPlace(path));
  ASSIGN_OR_RETURN(const Previous previous, Look(place));
  if (previous == Previous::kDirectory) {
    RETURN_IF_ERROR(Track(path));
    opaque_.insert(path);
  }
  if (previous != Previous::kNothing || links_.contains(path)) {
    return absl::OkStatus();
  }
  if (mknodat(place.parent, place.name.c_str(), S_IFCHR, makedev(0, 0)) != 0) {
    return base::ErrnoStatus(errno, "make the whiteout");
  }
  Count(place.parent, place.name);
  return absl::OkStatus();
}

absl::Status LayerTree::AddOpaque(const std::string& path) {
  if (path != ".") {
    // Any name in it: this makes the directory itself when it is missing.
    RETURN_IF_ERROR(FindPlace(path + "/x").status());
  }
  RETURN_IF_ERROR(Track(path));
  opaque_.insert(path);
  return absl::OkStatus();
}

absl::StatusOr<LayerTree::Summary> LayerTree::Finish() {
  for (const auto& [path, times] : directory_times_) {
    const base::UniqueFd directory(OpenBeneath(root_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    const timespec values[2] = {times.first, times.second};
    if (!directory.valid() || futimens(directory.get(), values) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("set the times of \"", path, "\""));
    }
  }
  Summary summary;
  summary.bytes = bytes_;
  summary.inodes = inodes_;
  // Links first: making one changes the times of its directory.
  std::vector<std::pair<size_t, DeferredOperation>> links;
  links.reserve(links_.size());
  for (const auto& [path, link] : links_) {
    links.emplace_back(link.first,
                       DeferredOperation{DeferredOperation::Kind::kHardLink, path, link.second});
  }
  std::ranges::sort(links, {}, &std::pair<size_t, DeferredOperation>::first);
  for (auto& [order, link] : links) {
    summary.deferred.push_back(std::move(link));
  }
  for (const std::string& path : opaque_) {
    summary.deferred.push_back({DeferredOperation::Kind::kOpaque, path, ""});
  }
  for (const std::string& path : implicit_) {
    summary.deferred.push_back({DeferredOperation::Kind::kCopyMetadata, path, ""});
  }
  size_t deferred_bytes = 0;
  for (const DeferredOperation& operation : summary.deferred) {
    deferred_bytes += operation.path.size() + operation.target.size() + 8;
  }
  if (deferred_bytes > kMaxDeferredBytes) {
    return absl::ResourceExhaustedError("the layer needs too much deferred work");
  }
  return summary;
}

}  // namespace imageservice::worker
