// Where the entries of a layer's archive land: a directory tree that no path, symlink or hard link
// of the archive leads out of, in the form overlayfs wants.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "imageservice/worker/entry_path.h"
#include "imageservice/worker/layer_notes.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/tar_header.h"

namespace imageservice::worker {

// Builds one layer. Paths are those CleanEntryPath returns. A parent that is a symlink of this
// layer is followed within the root, as chroot(2) would; each directory is then opened by
// openat2(2) beneath the root without symlinks. What stands in the place of a new entry is removed
// first (but a directory is merged with a directory), and files are created with O_EXCL: nothing is
// written through a link. Missing parents are made and reported as deferred kCopyMetadata.
//
// One thread. Errors are INVALID_ARGUMENT for what the archive should not ask, else those of the
// system call. The process's umask must be 0.
class LayerTree {
 public:
  // `root` is a descriptor of the layer's empty directory, not owned.
  explicit LayerTree(int root);

  absl::Status AddDirectory(const std::string& path, const FileMetadata& metadata);

  // An empty file to write the content to; CompleteFile gives it its metadata.
  absl::StatusOr<base::UniqueFd> AddFile(const std::string& path, const FileMetadata& metadata);
  absl::Status CompleteFile(int file, const FileMetadata& metadata);

  absl::Status AddSymlink(const std::string& path, const std::string& target,
                          const FileMetadata& metadata);
  absl::Status AddFifo(const std::string& path, const FileMetadata& metadata);
  // A device node, which is always deferred: making one is a privilege.
  enum class Device { kCharacter, kBlock };
  absl::Status AddDevice(const std::string& path, Device device, uint32_t major, uint32_t minor,
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
  // Gives the directories their metadata, which later entries would have changed or been subject
  // to until now, and sums up.
  absl::StatusOr<Summary> Finish();

 private:
  // A directory held open, the name of an entry in it, and the entry's path without symlinks.
  struct Place {
    int parent;
    std::string name;
    std::string path;
  };
  // What was in a place before.
  enum class Previous { kNothing, kWhiteout, kDirectory, kSymlink, kOther };
  // What to do about a directory that this layer does not have.
  enum class Missing { kMake, kLeave };

  absl::StatusOr<int> OpenDirectory(const std::string& path);
  absl::StatusOr<Place> FindPlace(const std::string& path);
  absl::StatusOr<std::string> Resolve(const std::string& path, Missing missing);
  absl::StatusOr<std::string> ResolveOne(const std::string& next, Missing missing);
  absl::StatusOr<Previous> Look(int parent, const std::string& name) const;
  absl::Status Vacate(Place* place);
  template <typename Make>
  absl::StatusOr<Place> MakeAt(const std::string& path, const char* what, Make make);
  absl::Status MakeDirectory(const Place& place, Previous previous);
  absl::Status Defer(const std::string& path, DeferredOperation operation);
  absl::Status Remove(int parent, const std::string& name);
  absl::Status RemoveContent(int parent, const std::string& name);
  absl::Status FinishDirectories();

  const int root_;
  const uid_t uid_;  // What new files belong to.
  const gid_t gid_;
  std::string cached_path_;  // How cached_, the directory opened last, was asked for,
  std::string cached_real_;  // and its path without symlinks.
  base::UniqueFd cached_;

  uint64_t bytes_ = 0;
  uint64_t inodes_ = 1;
  uint64_t steps_ = 0;  // Taken by Resolve, ever: a limit on time.
  LayerNotes notes_;
};

}  // namespace imageservice::worker
