// The root file system of one container: an overlay of its image's layers and a writable directory;
// and the images it has as volumes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/id.h"
#include "base/idmap.h"
#include "base/lane.h"
#include "base/mounts.h"
#include "imageservice/store/trash.h"
#include "imageservice/store/writable_usage.h"

namespace imageservice {

// Thread-safe for different containers. Paths follow from ids, so every call can be repeated.
class Rootfs {
 public:
  // Layers are at `<root>/layers/<chain id>`, writable directories at
  // `<root>/containers/<id>/{upper,work,volumes}`, mounts at `<run_root>/containers/<id>/rootfs`
  // and
  // `<run_root>/containers/<id>/volumes/<number>`, and at `…/store` while one of these is made for
  // a user namespace. Goes on with deletions that an earlier life began; they run on a lane of this
  // object's own.
  static absl::StatusOr<std::unique_ptr<Rootfs>> Open(std::string root, std::string run_root);
  ~Rootfs();  // Finishes deletions.

  // Mounts the overlay for `container` and returns where. What an interrupted call left is
  // replaced, its writable directory too. The layers must be pinned (image.h) until Remove. With
  // `user` the layers' files have the ids that this user namespace gives them, those of the
  // writable directory are the namespace's on disk too: nothing of root's is written there.
  // FAILED_PRECONDITION when the file system of `root` cannot be id-mapped.
  // `selinux_label`: of all its files; empty: as they are. MountVolume's, too.
  absl::StatusOr<std::string> Prepare(const base::Context& ctx, const base::ContainerId& container,
                                      const std::vector<std::string>& chain_ids,
                                      const std::optional<base::UserNamespace>& user = std::nullopt,
                                      const std::string& selinux_label = {});

  // Mounts the files of an image for `container`, read-only, nosuid and nodev, and returns where.
  // `number` tells its volumes apart. What an interrupted call left is replaced. The layers must be
  // pinned until Remove, which unmounts it. `user` as in Prepare.
  absl::StatusOr<std::string> MountVolume(
      const base::Context& ctx, const base::ContainerId& container, int number,
      const std::vector<std::string>& chain_ids,
      const std::optional<base::UserNamespace>& user = std::nullopt,
      const std::string& selinux_label = {});

  // Makes the folder `path` ("/data") in the mounted root file system of `container`, which does
  // not run yet, where it is missing (declared_volumes.h).
  absl::Status MakeFolder(const base::ContainerId& container, const std::string& path) const;
  // The same, and a copy of that folder, which counts as the container's and goes with it; where
  // the copy is. `number` tells the container's copies apart.
  absl::StatusOr<std::string> MakeFolderCopy(const base::Context& ctx,
                                             const base::ContainerId& container, int number,
                                             const std::string& path) const;

  // Unmounts and deletes the writable directory: renamed away first, then unlinked for at most half
  // of the context's time, the rest in the background. OK if there is nothing.
  absl::Status Remove(const base::Context& ctx, const base::ContainerId& container);

  // What a container has written, and when that was right; nothing when it is not known yet, or
  // there is no such container. Cheap (writable_usage.h).
  std::optional<WritableUsage::Sample> Usage(const base::ContainerId& container) const;
  // The same for all containers together, with what is still being unlinked. Right at the time of
  // the oldest sample; containers not measured yet are missing.
  WritableUsage::Sample TotalUsage() const;

  // The containers that have a writable directory: those without a record are to be removed.
  absl::StatusOr<std::vector<base::ContainerId>> List() const;

 private:
  Rootfs(std::string root, std::string run_root);
  std::string DirectoryOf(const base::ContainerId& container) const;
  std::string TargetOf(const base::ContainerId& container) const;
  std::string VolumesOf(const base::ContainerId& container) const;
  std::string StoreOf(const base::ContainerId& container) const;
  // With a `user`: mounts all of the store with its ids at StoreOf, for as long as `mapped` lives.
  absl::Status MapStore(const base::ContainerId& container,
                        const std::optional<base::UserNamespace>& user,
                        base::ScopedMount* mapped) const;
  // An overlay of these layers below `store`, without a place to write to.
  base::Overlay LayersOf(const std::string& store, const std::vector<std::string>& chain_ids) const;
  absl::Status UnmountVolumes(const base::ContainerId& container) const;
  absl::StatusOr<Trash::Removal> Discard(const base::ContainerId& container);
  // Makes the writable directories, with the image's root folder as the model of the new root.
  absl::Status MakeWritable(const std::string& directory, const std::string& top_layer) const;

  const std::string root_;
  const std::string run_root_;
  std::unique_ptr<base::Lane> gc_;
  std::unique_ptr<Trash> trash_;
  std::unique_ptr<WritableUsage> usage_;
};

}  // namespace imageservice
