#include "runtimeservice/user_namespaces.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/files.h"
#include "base/mounts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "network/user_namespace.h"
#include "runtimeservice/spec/spec_parts.h"
#include "runtimeservice/spec/user_namespace.h"

namespace runtimeservice {
namespace {

// Overlayfs takes id-mapped layers since then.
constexpr KernelVersion kOverlayOfIdmapped = {5, 19};

std::string StagedIn(const std::string& bundle) { return bundle + "/staged"; }

// An empty place in the staging directory to mount a copy of `source` on.
absl::StatusOr<std::string> MakePlace(const std::string& bundle, std::string_view name,
                                      const std::string& source) {
  // The namespace's root must be able to walk through.
  RETURN_IF_ERROR(base::MakeDirectories(StagedIn(bundle), 0711));
  std::string place = base::StrCat(StagedIn(bundle), "/", name);
  struct stat status = {};
  if (stat(source.c_str(), &status) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("stat ", source));
  }
  if (S_ISDIR(status.st_mode)) {
    RETURN_IF_ERROR(base::MakeDirectories(place, 0700));
  } else {
    RETURN_IF_ERROR(base::Open(place, O_RDONLY | O_CREAT, 0600).status());
  }
  return place;
}

}  // namespace

absl::Status ProbeUserNamespaces(const std::string& init_path, const std::string& storage,
                                 const HostFacts& host) {
  if (host.kernel < kOverlayOfIdmapped) {
    return absl::FailedPreconditionError(
        base::StrCat("Linux ", host.kernel.major, ".", host.kernel.minor,
                     " has no overlay of id-mapped layers; 5.19 has"));
  }
  const network::NewUserNamespace probe = {
      .map = {.uids = {.inside = 0, .outside = 65536, .length = 1},
              .gids = {.inside = 0, .outside = 65536, .length = 1}},
      .holder = init_path};
  const auto holder = network::NamespaceHolder::Start(probe, {"user"});
  if (!holder.ok()) {
    return absl::FailedPreconditionError(holder.status().message());
  }
  ASSIGN_OR_RETURN(const base::UniqueFd userns,
                   base::Open(base::StrCat("/proc/", holder->pid(), "/ns/user"), O_RDONLY));
  return base::CloneIdmapped(storage, userns.get(), base::Submounts::kWithout).status();
}

absl::Status GiveToRoot(const std::string& path, const base::IdMap& map) {
  if (lchown(path.c_str(), *map.uids.Outside(0), *map.gids.Outside(0)) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("give ", path, " to the pod's root"));
  }
  return absl::OkStatus();
}

absl::Status StageVolumes(const std::string& bundle, const cri::ContainerConfig& config,
                          const base::UserNamespace& user, std::vector<MountSource>* sources) {
  for (int i = 0; i < config.mounts_size(); ++i) {
    if (!WantsIdMap(config.mounts(i)) || IsImageVolume(config.mounts(i))) {
      continue;
    }
    MountSource& source = (*sources)[static_cast<size_t>(i)];
    const std::string field = base::StrCat("mounts[", i, "].uidMappings");
    absl::StatusOr<std::string> place = MakePlace(bundle, std::to_string(i), source.path);
    RETURN_IF_ERROR(base::Annotate(place.status(), field));
    RETURN_IF_ERROR(base::Annotate(
        base::BindIdmapped(source.path, user, *place, base::Submounts::kWith), field));
    source.path = *std::move(place);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> StageSysfs(const std::string& bundle) {
  ASSIGN_OR_RETURN(std::string place, MakePlace(bundle, "sys", "/sys"));
  ASSIGN_OR_RETURN(const base::UniqueFd sysfs, base::CloneReadOnly("/sys"));
  RETURN_IF_ERROR(base::AttachMount(sysfs, place));
  return place;
}

absl::Status ReleaseStaged(const std::string& bundle) {
  const std::string directory = StagedIn(bundle);
  const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(directory);
  if (absl::IsNotFound(names.status())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(names.status());
  for (const std::string& name : *names) {
    RETURN_IF_ERROR(base::Unmount(base::StrCat(directory, "/", name)));
  }
  return base::RemoveTree(directory);
}

}  // namespace runtimeservice
