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
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "base/symlinks.h"
#include "imageservice/worker/file_metadata.h"

namespace imageservice::worker {
namespace {

constexpr uint64_t kMaxSteps = 100'000'000;
constexpr uint64_t kBlock = 512;
constexpr uint64_t kUsualDirectoryBytes = 4096;
constexpr mode_t kDirectoryMode = 0755;
constexpr mode_t kSpecialBits = 07000;

int OpenBeneath(int root, const std::string& path, int flags) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how)));
}

bool IsWhiteout(const struct stat& found) {
  return S_ISCHR(found.st_mode) && found.st_rdev == makedev(0, 0);
}

// The mode a file is created with. Bits that give rights come last of all.
mode_t CreationMode(const FileMetadata& metadata) {
  return (metadata.mode & kSpecialBits) != 0 ? 0600 : metadata.mode;
}

}  // namespace

LayerTree::LayerTree(int root) : root_(root), uid_(geteuid()), gid_(getegid()) {
  // A setgid bit of the folder around it would give every file here that folder's group. When this
  // fails, so will the first entry.
  if (fchown(root, uid_, gid_) == 0) {
    fchmod(root, kDirectoryMode);
  }
  notes_.AddImplicit(".").IgnoreError();
}

// The descriptor stays ours, valid until the next call.
absl::StatusOr<int> LayerTree::OpenDirectory(const std::string& path) {
  if (path == ".") {
    return root_;
  }
  if (!cached_.valid() || cached_path_ != path) {
    cached_.Reset(OpenBeneath(root_, path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    cached_path_ = path;
    cached_real_ = path;
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
  const std::string parent = ParentPath(path);
  if (parent == ".") {
    return Place{root_, path, path};
  }
  absl::StatusOr<int> directory = OpenDirectory(parent);
  if (!directory.ok()) {
    ASSIGN_OR_RETURN(const std::string real, Resolve(parent, Missing::kMake));
    directory = OpenDirectory(real);
    RETURN_IF_ERROR(directory.status());
    if (real == ".") {
      return Place{root_, LastComponent(path), LastComponent(path)};
    }
    cached_path_ = parent;  // The next entry will ask for it by this name.
  }
  std::string name = LastComponent(path);
  std::string real_path = JoinPath(cached_real_, name);
  if (real_path.size() > kMaxEntryPath) {
    return absl::InvalidArgumentError("the path is too long without its symlinks");
  }
  return Place{*directory, std::move(name), std::move(real_path)};
}

// The path of the directory `path` without the symlinks that this layer has in it. Those lead
// nowhere else than beneath the root.
absl::StatusOr<std::string> LayerTree::Resolve(const std::string& path, Missing missing) {
  return base::ResolveSymlinks(path, [this, missing](const std::string& next) {
    return ++steps_ > kMaxSteps ? absl::StatusOr<std::string>(absl::ResourceExhaustedError(
                                      "the layer's paths take too long to follow"))
                                : ResolveOne(next, missing);
  });
}

// One step: the target when `next` is a symlink, else nothing.
absl::StatusOr<std::string> LayerTree::ResolveOne(const std::string& next, Missing missing) {
  const absl::StatusOr<int> parent = OpenDirectory(ParentPath(next));
  if (absl::IsNotFound(parent.status()) && missing == Missing::kLeave) {
    return "";
  }
  RETURN_IF_ERROR(parent.status());
  const Place place = {*parent, LastComponent(next), next};
  ASSIGN_OR_RETURN(const Previous previous, Look(place.parent, place.name));
  switch (previous) {
    case Previous::kDirectory:
      return "";
    case Previous::kSymlink: {
      char target[kMaxEntryPath + 1];
      const ssize_t size = readlinkat(place.parent, place.name.c_str(), target, sizeof(target));
      if (size < 0) {
        return base::ErrnoStatus(errno, base::StrCat("read the symlink \"", next, "\""));
      }
      return std::string(target, static_cast<size_t>(size));
    }
    case Previous::kOther:
      return absl::InvalidArgumentError(
          base::StrCat("\"", next, "\" is no directory in this layer"));
    case Previous::kNothing:
    case Previous::kWhiteout:
      break;
  }
  if (notes_.IsDeferred(next) || (previous == Previous::kWhiteout && missing == Missing::kLeave)) {
    return absl::InvalidArgumentError(base::StrCat(
        "\"", next, "\" is ", previous == Previous::kWhiteout ? "deleted" : "no directory",
        " in this layer"));
  }
  if (missing == Missing::kMake) {
    RETURN_IF_ERROR(MakeDirectory(place, previous));
    RETURN_IF_ERROR(notes_.AddImplicit(next));
  }
  return "";
}

absl::StatusOr<LayerTree::Previous> LayerTree::Look(int parent, const std::string& name) const {
  struct stat found = {};
  if (fstatat(parent, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) {
      return Previous::kNothing;
    }
    return base::ErrnoStatus(errno, "look at what is there");
  }
  if (S_ISDIR(found.st_mode)) return Previous::kDirectory;
  if (S_ISLNK(found.st_mode)) return Previous::kSymlink;
  return IsWhiteout(found) ? Previous::kWhiteout : Previous::kOther;
}

// Removes what is in a place, for something that is no directory.
absl::Status LayerTree::Vacate(Place* place) {
  ASSIGN_OR_RETURN(const Previous previous, Look(place->parent, place->name));
  if (previous == Previous::kNothing) {
    return absl::OkStatus();
  }
  if (previous != Previous::kDirectory) {
    return Remove(place->parent, place->name);
  }
  notes_.Forget(place->path);
  RETURN_IF_ERROR(RemoveContent(place->parent, place->name));
  // The directory that was opened last may have been one of those removed.
  cached_.Reset();
  ASSIGN_OR_RETURN(place->parent, OpenDirectory(ParentPath(place->path)));
  return absl::OkStatus();
}

// Has something made in the place of `path` by `make`, which returns a negative number and errno
// when it cannot. Mostly the place is empty, so that is not looked at before.
template <typename Make>
absl::StatusOr<LayerTree::Place> LayerTree::MakeAt(const std::string& path, const char* what,
                                                   Make make) {
  ASSIGN_OR_RETURN(Place place, FindPlace(path));
  notes_.DropDeferred(place.path);
  if (make(place) < 0) {
    if (errno != EEXIST) {
      return base::ErrnoStatus(errno, what);
    }
    RETURN_IF_ERROR(Vacate(&place));
    if (make(place) < 0) {
      return base::ErrnoStatus(errno, what);
    }
  }
  return place;
}

absl::Status LayerTree::MakeDirectory(const Place& place, Previous previous) {
  if (previous != Previous::kNothing) {
    RETURN_IF_ERROR(Remove(place.parent, place.name));
  }
  if (notes_.DropDeferred(place.path) || previous != Previous::kNothing) {
    // What stood here hid the lower layers' directory of this name; the new one must go on doing
    // so.
    RETURN_IF_ERROR(notes_.AddOpaque(place.path));
  }
  if (mkdirat(place.parent, place.name.c_str(), kDirectoryMode) != 0) {
    return base::ErrnoStatus(errno, "make the directory");
  }
  ++inodes_;
  return absl::OkStatus();
}

// Removes one thing that is no directory, or an empty directory.
absl::Status LayerTree::Remove(int parent, const std::string& name) {
  struct stat found = {};
  if (fstatat(parent, name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::ErrnoStatus(errno, "look at what is replaced");
  }
  const bool is_directory = S_ISDIR(found.st_mode);
  if (unlinkat(parent, name.c_str(), is_directory ? AT_REMOVEDIR : 0) != 0) {
    return base::ErrnoStatus(errno, "remove what is replaced");
  }
  if (S_ISLNK(found.st_mode)) {
    cached_path_ = cached_real_;  // It may have been found through this symlink.
  }
  if (is_directory || found.st_nlink == 1) {
    inodes_ -= 1;
  }
  if (!is_directory && found.st_nlink == 1) {  // Directories are counted at the end.
    bytes_ -= std::min(bytes_, static_cast<uint64_t>(found.st_blocks) * kBlock);
  }
  return absl::OkStatus();
}

// Removes a directory with all it holds. Recursion ends at kMaxEntryDepth, which every path obeys.
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
      ASSIGN_OR_RETURN(const Previous previous, Look(fd, entry->d_name));
      entries.emplace_back(child, previous == Previous::kDirectory);
    }
  }
  for (const auto& [child, is_directory] : entries) {
    RETURN_IF_ERROR(is_directory ? RemoveContent(fd, child) : Remove(fd, child));
  }
  return Remove(parent, name);
}

absl::Status LayerTree::AddDirectory(const std::string& path, const FileMetadata& metadata) {
  std::string real = ".";
  if (path != ".") {
    ASSIGN_OR_RETURN(const Place place, FindPlace(path));
    real = place.path;
    if (notes_.IsDeferred(real) || mkdirat(place.parent, place.name.c_str(), kDirectoryMode) != 0) {
      ASSIGN_OR_RETURN(const Previous previous, Look(place.parent, place.name));
      if (previous != Previous::kDirectory) {
        RETURN_IF_ERROR(MakeDirectory(place, previous));
      }
    } else {
      ++inodes_;
    }
  }
  return notes_.AddDirectory(real, metadata);
}

absl::StatusOr<base::UniqueFd> LayerTree::AddFile(const std::string& path,
                                                  const FileMetadata& metadata) {
  base::UniqueFd file;
  const auto make = [&file, &metadata](const Place& place) {
    file.Reset(openat(place.parent, place.name.c_str(),
                      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      CreationMode(metadata)));
    return file.get();
  };
  RETURN_IF_ERROR(MakeAt(path, "create the file", make).status());
  ++inodes_;
  return file;
}

absl::Status LayerTree::CompleteFile(int file, const FileMetadata& metadata) {
  const Ownership made = {uid_, gid_, CreationMode(metadata)};
  RETURN_IF_ERROR(ApplyMetadata(file, made, metadata));
  struct stat found = {};
  if (fstat(file, &found) == 0) {
    bytes_ += static_cast<uint64_t>(found.st_blocks) * kBlock;
  }
  return absl::OkStatus();
}

absl::Status LayerTree::AddSymlink(const std::string& path, const std::string& target,
                                   const FileMetadata& metadata) {
  const auto make = [&target](const Place& place) {
    return symlinkat(target.c_str(), place.parent, place.name.c_str());
  };
  ASSIGN_OR_RETURN(const Place place, MakeAt(path, "make the symlink", make));
  ++inodes_;
  return ApplyMetadataAt(place.parent, place.name, {uid_, gid_, metadata.mode}, metadata);
}

absl::Status LayerTree::AddFifo(const std::string& path, const FileMetadata& metadata) {
  const auto make = [&metadata](const Place& place) {
    return mknodat(place.parent, place.name.c_str(), S_IFIFO | CreationMode(metadata), 0);
  };
  ASSIGN_OR_RETURN(const Place place, MakeAt(path, "make the FIFO", make));
  ++inodes_;
  return ApplyMetadataAt(place.parent, place.name, {uid_, gid_, CreationMode(metadata)}, metadata);
}

absl::Status LayerTree::AddDevice(const std::string& path, Device device, uint32_t major,
                                  uint32_t minor, const FileMetadata& metadata) {
  if (device == Device::kCharacter && major == 0 && minor == 0) {
    return absl::InvalidArgumentError("the device 0:0, which overlayfs takes for a whiteout");
  }
  DeferredOperation operation;
  operation.kind = DeferredOperation::Kind::kNode;
  operation.node = {.is_block = device == Device::kBlock,
                    .major = major,
                    .minor = minor,
                    .mode = metadata.mode,
                    .uid = metadata.uid,
                    .gid = metadata.gid,
                    .mtime = metadata.mtime};
  return Defer(path, std::move(operation));
}

// Empties the place of `path` and remembers what the daemon is to make there.
absl::Status LayerTree::Defer(const std::string& path, DeferredOperation operation) {
  ASSIGN_OR_RETURN(Place place, FindPlace(path));
  RETURN_IF_ERROR(Vacate(&place));
  operation.path = std::move(place.path);
  return notes_.Defer(std::move(operation));
}

absl::Status LayerTree::AddHardLink(const std::string& path, const std::string& target) {
  ASSIGN_OR_RETURN(const std::string directory, Resolve(ParentPath(target), Missing::kLeave));
  const std::string name = LastComponent(target);
  const std::string real_target = JoinPath(directory, name);
  // Opened beside the cache: the place of `path` lives in that.
  const base::UniqueFd source(OpenBeneath(root_, directory, O_PATH | O_DIRECTORY));
  Previous found = Previous::kNothing;
  if (source.valid()) {
    ASSIGN_OR_RETURN(found, Look(source.get(), name));
  }
  if (found == Previous::kDirectory || found == Previous::kWhiteout) {
    return absl::InvalidArgumentError(
        base::StrCat("a hard link to \"", target, "\", which is ",
                     found == Previous::kDirectory ? "a directory" : "deleted"));
  }
  ASSIGN_OR_RETURN(const Place place, FindPlace(path));
  if (place.path == real_target &&
      (found != Previous::kNothing || notes_.IsDeferred(real_target))) {
    return absl::OkStatus();  // A link to itself is what is there.
  }
  if (found == Previous::kNothing) {
    DeferredOperation link;
    link.kind = DeferredOperation::Kind::kHardLink;
    link.target = real_target;
    return Defer(path, std::move(link));
  }
  const auto make = [&](const Place& at) {
    return linkat(source.get(), name.c_str(), at.parent, at.name.c_str(), 0);
  };
  const std::string what = base::StrCat("link \"", target, "\"");
  return MakeAt(path, what.c_str(), make).status();
}

absl::Status LayerTree::AddWhiteout(const std::string& path) {
  ASSIGN_OR_RETURN(const Place place, FindPlace(path));
  if (notes_.IsDeferred(place.path)) {
    return absl::OkStatus();
  }
  if (mknodat(place.parent, place.name.c_str(), S_IFCHR, makedev(0, 0)) == 0) {
    ++inodes_;
    return absl::OkStatus();
  }
  if (errno != EEXIST) {
    return base::ErrnoStatus(errno, "make the whiteout");
  }
  ASSIGN_OR_RETURN(const Previous previous, Look(place.parent, place.name));
  if (previous == Previous::kDirectory) {
    RETURN_IF_ERROR(notes_.AddOpaque(place.path));
  }
  return absl::OkStatus();
}

absl::Status LayerTree::AddOpaque(const std::string& path) {
  std::string real = ".";
  if (path != ".") {
    // Any name in it: this makes the directory itself when it is missing.
    ASSIGN_OR_RETURN(const Place place, FindPlace(path + "/x"));
    real = ParentPath(place.path);
  }
  return notes_.AddOpaque(real);
}

// Those below before those above, which may not let us in any more then.
absl::Status LayerTree::FinishDirectories() {
  bytes_ += notes_.implicit_directories() * kUsualDirectoryBytes;
  for (auto it = notes_.directories().rbegin(); it != notes_.directories().rend(); ++it) {
    const auto& [path, metadata] = *it;
    const base::UniqueFd directory(OpenBeneath(root_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    absl::Status status = base::ErrnoStatus(errno, "open it");
    if (directory.valid()) {
      status = ApplyMetadata(directory.get(), {uid_, gid_, kDirectoryMode}, metadata);
    }
    if (!status.ok()) {
      return base::Annotate(status, base::StrCat("directory \"", path, "\""));
    }
    struct stat found = {};
    if (fstat(directory.get(), &found) == 0) {
      bytes_ += static_cast<uint64_t>(found.st_blocks) * kBlock;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<LayerTree::Summary> LayerTree::Finish() {
  RETURN_IF_ERROR(FinishDirectories());
  Summary summary = {bytes_, inodes_ + notes_.nodes(), {}};
  ASSIGN_OR_RETURN(summary.deferred, notes_.Operations());
  return summary;
}

}  // namespace imageservice::worker
