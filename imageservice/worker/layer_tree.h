// Where the entries of a layer's archive land: a directory tree that no path, symlink or hard link
// of the archive leads out of, in the form overlayfs wants.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

// What an archive says of a file besides its content.
struct FileMetadata {
  mode_t mode = 0;  // Permission bits with setuid, setgid and sticky.
  uid_t uid = 0;
  gid_t gid = 0;
  timespec atime = {};
  timespec mtime = {};
  std::vector<std::pair<std::string, std::string>> xattrs;
};

// The path of an entry relative to the root: without "." and empty components, ".." resolved in the
// text; "." for the root itself. INVALID_ARGUMENT when it leaves the root, is longer than 4095
// bytes or deeper than 256 components.
absl::StatusOr<std::string> CleanEntryPath(std::string_view path);

// Builds one layer. Paths are those CleanEntryPath returns. Every parent is resolved by openat2(2)
// beneath the root without following symlinks; what stands in the place of a new entry is removed
// first (but a directory is merged with a directory), and files are created with O_EXCL: nothing is
// written through a link. Missing parents are made and reported as deferred kCopyMetadata.
//
// One thread. Errors are INVALID_ARGUMENT for what the archive should not ask, else those of the
// system call. The process's umask must be 0.
class LayerTree {
 public:
  // `root` is a descriptor of the layer's empty directory, not owned.
  explicit LayerTree(int root) : root_(root) { implicit_.insert("."); }

  absl::Status AddDirectory(const std::string& path, const FileMetadata& metadata);

  // An empty file to write the content to; CompleteFile gives it its metadata.
  absl::StatusOr<base::UniqueFd> AddFile(const std::string& path);
  absl::Status CompleteFile(int file, const FileMetadata& metadata);

  absl::Status AddSymlink(const std::string& path, const std::string& target,
                          const FileMetadata& metadata);
  // A device node or FIFO; `type` is S_IFCHR, S_IFBLK or S_IFIFO.
  absl::Status AddNode(const std::string& path, mode_t type, dev_t device,
                       const FileMetadata& metadata);
  // A link to the file `target` of this layer; deferred when this layer has none.
  absl::Status AddHardLink(const std::string& path, const std::string& target);

  // Hides `path` of the lower layers (OCI image-spec, layer.md, "Whiteouts"). What this layer has
  // at `path` stays; if that is a directory it becomes opaque.
  absl::Status AddWhiteout(const std::string& path);
  // Hides the lower layers' content of the directory `path`.
  absl::Status AddOpaque(const std::string& path);

  // What was built.
  struct Summary {
    uint64_t bytes = 0;
    uint64_t inodes = 0;
    std::vector<DeferredOperation> deferred;
  };
  // Sets the times of the directories, which later entries have changed until now, and sums up.
  absl::StatusOr<Summary> Finish();

 private:
  // A directory held open, and the name of an entry in it.
  struct Place {
    int parent;
    std::string name;
  };
  // What was in a place before.
  enum class Previous { kNothing, kWhiteout, kDirectory, kOther };

  absl::StatusOr<int> OpenDirectory(const std::string& path);
  absl::StatusOr<Place> FindPlace(const std::string& path);
  absl::Status MakeParents(const std::string& path);
  absl::StatusOr<Previous> Look(const Place& place, struct stat* found = nullptr) const;
  absl::StatusOr<Place> Vacate(const std::string& path);
  absl::Status MakeDirectory(const std::string& path, const Place& place, Previous previous);
  absl::Status Remove(int parent, const std::string& name);
  absl::Status RemoveContent(int parent, const std::string& name);
  void Forget(const std::string& path);
  absl::Status Track(const std::string& path);
  void Count(int parent, const std::string& name);

  const int root_;
  std::string cached_path_;  // Of cached_, the directory opened last.
  base::UniqueFd cached_;

  uint64_t bytes_ = 0;
  uint64_t inodes_ = 1;
  size_t tracked_bytes_ = 0;  // Of the paths below, ever: a limit on memory.
  std::map<std::string, std::pair<timespec, timespec>> directory_times_;
  std::set<std::string> implicit_;  // Directories without an entry of their own.
  std::set<std::string> opaque_;
  // Deferred hard links: path → (order of arrival, target).
  std::map<std::string, std::pair<size_t, std::string>> links_;
  size_t links_seen_ = 0;
};

}  // namespace imageservice::worker
