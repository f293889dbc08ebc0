// Images and volumes. Volumes that are images: found and pinned before anything is made, mounted
// read-only beside the container's root file system. Folders that the container's own image
// declares as volumes: made in the root file system, or copied out of it.
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <set>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "runtimeservice/new_container.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/spec_parts.h"

namespace runtimeservice {
namespace {

// Who pins the layers of the image that is the source of mount `mount`.
std::string VolumeOwner(const std::string& container, int mount) {
  return base::StrCat(container, "/", mount);
}

absl::Status VolumeError(int mount, std::string_view field, const absl::Status& status) {
  return status.ok() ? status
                     : absl::Status(status.code(),
                                    base::StrCat(kImageVolumeFailed, "mounts[", mount, "].", field,
                                                 ": ", base::ToStd(status.message())));
}

// Where `sub_path` leads beneath `root`, whose symlinks are followed as a process with that root
// would. The result has none: nothing in `root` ever changes.
absl::StatusOr<std::string> ResolveSubPath(const std::string& root, const std::string& sub_path) {
  if (sub_path.empty()) {
    return root;
  }
  ASSIGN_OR_RETURN(const base::UniqueFd directory, base::Open(root, O_PATH | O_DIRECTORY));
  absl::StatusOr<base::UniqueFd> found =
      base::OpenBeneath(directory.get(), sub_path, O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_XDEV);
  if (!found.ok()) {
    return absl::InvalidArgumentError(found.status().message());
  }
  struct stat status = {};
  if (fstat(found->get(), &status) != 0) {
    return base::ErrnoStatus(errno, sub_path);
  }
  if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(base::StrCat(sub_path, ": neither a folder nor a file"));
  }
  std::string path(PATH_MAX, '\0');
  const std::string link = base::StrCat("/proc/self/fd/", found->get());
  const ssize_t size = readlink(link.c_str(), path.data(), path.size());
  if (size < 0 || static_cast<size_t>(size) == path.size()) {
    return base::ErrnoStatus(size < 0 ? errno : ENAMETOOLONG, sub_path);
  }
  path.resize(static_cast<size_t>(size));
  return path;
}

// Whether a mount of the request hides `path`: it would be made in that mount's source.
bool CoveredByMount(const cri::ContainerConfig& config, const std::string& path) {
  return std::any_of(config.mounts().begin(), config.mounts().end(), [&](const cri::Mount& mount) {
    const std::string covered = ContainerPath(mount.container_path()).value_or("/");
    return path == covered || path.rfind(covered + "/", 0) == 0;
  });
}

}  // namespace

absl::Status RuntimeService::AcquireImageVolumes(NewContainer* plan) {
  state::ContainerRecord& record = plan->container.record;
  for (int i = 0; i < record.config().mounts_size(); ++i) {
    const cri::Mount& mount = record.config().mounts(i);
    if (!IsImageVolume(mount)) {
      continue;
    }
    absl::StatusOr<imageservice::ContainerImage> image =
        uses_.images.Acquire(mount.image().image(), VolumeOwner(plan->container.id.str(), i));
    RETURN_IF_ERROR(VolumeError(i, "image", image.status()));
    state::ImageVolume* volume = record.add_image_volumes();
    volume->set_mount(i);
    volume->set_image_id(image->id);
    volume->mutable_chain_ids()->Assign(image->chain_ids.begin(), image->chain_ids.end());
  }
  return absl::OkStatus();
}

absl::Status RuntimeService::MountImageVolumes(const Context& ctx, const Pod& pod,
                                               NewContainer* plan) {
  for (const state::ImageVolume& volume : plan->container.record.image_volumes()) {
    const int number = volume.mount();
    const cri::Mount& mount = plan->container.record.config().mounts(number);
    const absl::StatusOr<std::string> root = uses_.rootfs.MountVolume(
        ctx, plan->container.id, number, {volume.chain_ids().begin(), volume.chain_ids().end()},
        UserNamespaceOf(pod), plan->selinux.mount);
    RETURN_IF_ERROR(VolumeError(number, "image", root.status()));
    absl::StatusOr<std::string> path = ResolveSubPath(*root, mount.image_sub_path());
    RETURN_IF_ERROR(VolumeError(number, "image_sub_path", path.status()));
    plan->mounts[static_cast<size_t>(number)].path = *std::move(path);
  }
  return absl::OkStatus();
}

absl::Status RuntimeService::MakeDeclaredVolumes(const Context& ctx, NewContainer* plan) {
  constexpr size_t kMost = 256;  // An image is foreign, and each costs a mount.
  if (config_.declared_volumes == DeclaredVolumes::kIgnore) {
    return absl::OkStatus();
  }
  const Container& container = plan->container;
  std::set<std::string> paths;
  for (const std::string& declared : plan->process.volumes) {
    // The root itself, and what is no path at all, asks for nothing.
    const absl::StatusOr<std::string> path = ContainerPath(declared);
    if (path.ok() && !CoveredByMount(container.record.config(), *path)) {
      paths.insert(*path);
    }
  }
  if (paths.size() > kMost) {
    return absl::FailedPreconditionError(base::StrCat("image ", container.record.image_id(),
                                                      ": it declares ", paths.size(), " volumes"));
  }
  int number = 0;
  for (const std::string& path : paths) {
    absl::Status made;
    if (config_.declared_volumes == DeclaredVolumes::kMkdir) {
      made = uses_.rootfs.MakeFolder(container.id, path);
    } else {
      absl::StatusOr<std::string> copy =
          uses_.rootfs.MakeFolderCopy(ctx, container.id, number++, path);
      made = copy.status();
      if (made.ok()) {
        plan->extra_mounts.push_back(
            {.destination = path, .source = *std::move(copy), .readonly = false});
      }
    }
    RETURN_IF_ERROR(base::Annotate(
        made, base::StrCat("image ", container.record.image_id(), ": volume ", path)));
  }
  return absl::OkStatus();
}

void RuntimeService::PinImages(const state::ContainerRecord& record) {
  uses_.images.Pin(record.id(), {record.chain_ids().begin(), record.chain_ids().end()});
  for (const state::ImageVolume& volume : record.image_volumes()) {
    uses_.images.Pin(VolumeOwner(record.id(), volume.mount()),
                     {volume.chain_ids().begin(), volume.chain_ids().end()});
  }
}

void RuntimeService::ReleaseImages(const base::ContainerId& id,
                                   const state::ContainerRecord& record) {
  uses_.images.Release(id.str());
  for (const state::ImageVolume& volume : record.image_volumes()) {
    uses_.images.Release(VolumeOwner(id.str(), volume.mount()));
  }
}

}  // namespace runtimeservice
