#include "imageservice/rootfs.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/mounts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "imageservice/declared_volumes.h"

namespace imageservice {
namespace {

// Mounts, with the layers named by descriptors if their paths are too long together: kernels before
// 6.5 take all of them in one page of options.
absl::Status Mount(base::Overlay overlay, const std::string& target) {
  const absl::Status status = base::MountOverlay(overlay, target);
  if (!absl::IsFailedPrecondition(status)) {
    return status;
  }
  std::vector<base::UniqueFd> layers;
  for (std::string& path : overlay.lower) {
    ASSIGN_OR_RETURN(base::UniqueFd layer, base::Open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    path = base::StrCat("/proc/self/fd/", layer.get());
    layers.push_back(std::move(layer));
  }
  return base::MountOverlay(overlay, target);
}

void AddLabel(const std::string& selinux_label, base::Overlay* overlay) {
  if (!selinux_label.empty()) {
    overlay->options.emplace_back("context", selinux_label);
  }
}

}  // namespace

Rootfs::Rootfs(std::string root, std::string run_root)
    : root_(std::move(root)),
      run_root_(std::move(run_root)),
      gc_(std::make_unique<base::Lane>("rootfs-gc", 2, 4096)) {}

Rootfs::~Rootfs() { gc_.reset(); }

absl::StatusOr<std::unique_ptr<Rootfs>> Rootfs::Open(std::string root, std::string run_root) {
  std::unique_ptr<Rootfs> rootfs(new Rootfs(std::move(root), std::move(run_root)));
  // Nobody else may walk in: containers leave set-user-ID files there.
  RETURN_IF_ERROR(base::MakeDirectories(rootfs->root_ + "/containers", 0700));
  ASSIGN_OR_RETURN(rootfs->trash_,
                   Trash::Open(rootfs->root_ + "/trash-containers", rootfs->gc_.get()));
  RETURN_IF_ERROR(base::MakeDirectories(rootfs->root_ + "/empty", 0755));
  rootfs->usage_ = std::make_unique<WritableUsage>(rootfs->root_ + "/containers");
  return rootfs;
}

std::string Rootfs::DirectoryOf(const base::ContainerId& container) const {
  return base::StrCat(root_, "/containers/", container.str());
}

std::string Rootfs::TargetOf(const base::ContainerId& container) const {
  return base::StrCat(run_root_, "/containers/", container.str(), "/rootfs");
}

std::string Rootfs::VolumesOf(const base::ContainerId& container) const {
  return base::StrCat(run_root_, "/containers/", container.str(), "/volumes");
}

std::string Rootfs::StoreOf(const base::ContainerId& container) const {
  return base::StrCat(run_root_, "/containers/", container.str(), "/store");
}

absl::Status Rootfs::MapStore(const base::ContainerId& container,
                              const std::optional<base::UserNamespace>& user,
                              base::ScopedMount* mapped) const {
  if (!user.has_value()) {
    return absl::OkStatus();
  }
  const std::string place = StoreOf(container);
  RETURN_IF_ERROR(base::Unmount(place));
  RETURN_IF_ERROR(base::MakeDirectories(place, 0700));
  RETURN_IF_ERROR(base::BindIdmapped(root_, *user, place, base::Submounts::kWithout));
  *mapped = base::ScopedMount(place);
  return absl::OkStatus();
}

base::Overlay Rootfs::LayersOf(const std::string& store,
                               const std::vector<std::string>& chain_ids) const {
  base::Overlay overlay;
  for (auto chain_id = chain_ids.rbegin(); chain_id != chain_ids.rend(); ++chain_id) {
    overlay.lower.push_back(base::StrCat(store, "/layers/", *chain_id));
  }
  // A layer's content must not be able to point to other files of the store.
  overlay.options = {{"metacopy", "off"}, {"index", "off"}};
  return overlay;
}

absl::StatusOr<std::string> Rootfs::Prepare(const base::Context& ctx,
                                            const base::ContainerId& container,
                                            const std::vector<std::string>& chain_ids,
                                            const std::optional<base::UserNamespace>& user,
                                            const std::string& selinux_label) {
  RETURN_IF_ERROR(ctx.Check());
  const std::string directory = DirectoryOf(container);
  const std::string target = TargetOf(container);
  const std::string what = base::StrCat("root file system of container ", container.str());
  RETURN_IF_ERROR(base::Annotate(base::Unmount(target), what));
  RETURN_IF_ERROR(base::Annotate(Discard(container).status(), what));

  // Overlayfs itself cannot be id-mapped, but takes layers from mounts that are. One of the whole
  // store has them all; it is needed until the overlay has copies of its own.
  base::ScopedMount mapped;
  RETURN_IF_ERROR(base::Annotate(MapStore(container, user, &mapped), what));
  const std::string store = mapped.target().empty() ? root_ : mapped.target();
  base::Overlay overlay = LayersOf(store, chain_ids);
  if (overlay.lower.empty()) {
    overlay.lower.push_back(store + "/empty");  // An overlay needs a layer.
  }
  overlay.upper = directory + "/upper";
  overlay.work = directory + "/work";
  AddLabel(selinux_label, &overlay);
  RETURN_IF_ERROR(base::Annotate(base::MakeDirectories(directory, 0700), what));
  usage_->Begin(container.str());  // While it is empty.
  RETURN_IF_ERROR(base::Annotate(MakeWritable(directory, overlay.lower.front()), what));
  RETURN_IF_ERROR(base::Annotate(base::MakeDirectories(target, 0700), what));
  RETURN_IF_ERROR(base::Annotate(Mount(std::move(overlay), target), what));
  return target;
}

absl::StatusOr<std::string> Rootfs::MountVolume(const base::Context& ctx,
                                                const base::ContainerId& container, int number,
                                                const std::vector<std::string>& chain_ids,
                                                const std::optional<base::UserNamespace>& user,
                                                const std::string& selinux_label) {
  RETURN_IF_ERROR(ctx.Check());
  const std::string volumes = VolumesOf(container);
  const std::string target = base::StrCat(volumes, "/", number);
  const std::string what = base::StrCat("volume ", number, " of container ", container.str());
  RETURN_IF_ERROR(base::Annotate(base::Unmount(target), what));
  base::ScopedMount mapped;
  RETURN_IF_ERROR(base::Annotate(MapStore(container, user, &mapped), what));
  const std::string store = mapped.target().empty() ? root_ : mapped.target();
  base::Overlay overlay = LayersOf(store, chain_ids);
  // Without an upper directory it takes two layers; the second may be the folder it covers. No more
  // than needed: an image can have as many layers as a mount.
  if (chain_ids.size() < 2) {
    overlay.lower.push_back(store + "/empty");
  }
  if (chain_ids.empty()) {
    overlay.lower.push_back(target);
  }
  AddLabel(selinux_label, &overlay);
  overlay.attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  RETURN_IF_ERROR(base::Annotate(base::MakeDirectories(volumes, 0711), what));
  RETURN_IF_ERROR(base::Annotate(base::MakeDirectories(target, 0700), what));
  RETURN_IF_ERROR(base::Annotate(Mount(std::move(overlay), target), what));
  return target;
}

absl::Status Rootfs::MakeFolder(const base::ContainerId& container, const std::string& path) const {
  return MakeFolderBeneath(TargetOf(container), path).status();
}

absl::StatusOr<std::string> Rootfs::MakeFolderCopy(const base::Context& ctx,
                                                   const base::ContainerId& container, int number,
                                                   const std::string& path) const {
  const std::string target = TargetOf(container);
  ASSIGN_OR_RETURN(const std::string folder, MakeFolderBeneath(target, path));
  const std::string volumes = DirectoryOf(container) + "/volumes";
  RETURN_IF_ERROR(base::MakeDirectories(volumes, 0700));
  std::string copy = base::StrCat(volumes, "/", number);
  RETURN_IF_ERROR(CopyFolder(ctx, base::StrCat(target, "/", folder), copy));
  return copy;
}

absl::Status Rootfs::UnmountVolumes(const base::ContainerId& container) const {
  const std::string volumes = VolumesOf(container);
  const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(volumes);
  if (absl::IsNotFound(names.status())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(names.status());
  for (const std::string& name : *names) {
    RETURN_IF_ERROR(base::Unmount(base::StrCat(volumes, "/", name)));
  }
  return base::RemoveTree(volumes);
}

absl::Status Rootfs::MakeWritable(const std::string& directory,
                                  const std::string& top_layer) const {
  const std::string upper = directory + "/upper";
  RETURN_IF_ERROR(base::MakeDirectories(upper, 0700));
  RETURN_IF_ERROR(base::MakeDirectories(directory + "/work", 0700));
  struct stat model;
  if (lstat(top_layer.c_str(), &model) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("stat layer ", top_layer));
  }
  if (lchown(upper.c_str(), model.st_uid, model.st_gid) != 0 ||
      chmod(upper.c_str(), model.st_mode & 07777) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("set owner and mode of ", upper));
  }
  return absl::OkStatus();
}

absl::Status Rootfs::Remove(const base::Context& ctx, const base::ContainerId& container) {
  const std::string target = TargetOf(container);
  const std::string what = base::StrCat("root file system of container ", container.str());
  RETURN_IF_ERROR(base::Annotate(UnmountVolumes(container), what));
  for (const std::string& place : {target, StoreOf(container)}) {
    RETURN_IF_ERROR(base::Annotate(base::Unmount(place), what));
    if (rmdir(place.c_str()) != 0 && errno != ENOENT) {
      return base::ErrnoStatus(errno, base::StrCat("remove ", place));
    }
  }
  absl::StatusOr<Trash::Removal> removal = Discard(container);
  if (!removal.ok()) {
    return base::Annotate(removal.status(), what);
  }
  Trash::Wait(ctx, {*std::move(removal)});
  return absl::OkStatus();
}

absl::StatusOr<Trash::Removal> Rootfs::Discard(const base::ContainerId& container) {
  return trash_->Discard(DirectoryOf(container), usage_->End(container.str()));
}

std::optional<WritableUsage::Sample> Rootfs::Usage(const base::ContainerId& container) const {
  return usage_->Of(container.str());
}

WritableUsage::Sample Rootfs::TotalUsage() const {
  WritableUsage::Sample total = {.used = {}, .measured = absl::Now()};
  const absl::StatusOr<std::vector<base::ContainerId>> containers = List();
  if (containers.ok()) {
    for (const base::ContainerId& container : *containers) {
      if (const auto sample = Usage(container)) {
        total.used += sample->used;
        total.measured = std::min(total.measured, sample->measured);
      }
    }
  }
  total.used += trash_->pending();
  return total;
}

absl::StatusOr<std::vector<base::ContainerId>> Rootfs::List() const {
  ASSIGN_OR_RETURN(const std::vector<std::string> names,
                   base::ListDirectory(root_ + "/containers"));
  std::vector<base::ContainerId> containers;
  for (const std::string& name : names) {
    if (absl::StatusOr<base::ContainerId> id = base::ContainerId::Parse(name); id.ok()) {
      containers.push_back(*std::move(id));
    }
  }
  return containers;
}

}  // namespace imageservice
