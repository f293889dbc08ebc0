// What a container takes from the host's file systems: sources of mounts, devices, profiles.
#include <sys/stat.h>

#include <memory>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/new_container.h"
#include "runtimeservice/runtime_service.h"

namespace runtimeservice {

absl::StatusOr<RuntimeService::HostParts> RuntimeService::LookAtHost(
    const Context& ctx, const Pod& pod, const cri::ContainerConfig& config) {
  // A look that hangs outlives the request, perhaps this object: it owns what it uses.
  struct Wanted {
    cri::ContainerConfig config;
    std::string log_directory;
    NodeMounts node_mounts;
    std::vector<std::string> reject_absent;
  };
  auto wanted = std::make_shared<const Wanted>(
      Wanted{.config = config,
             .log_directory = pod.record.config().log_directory(),
             .node_mounts = config_.node_mounts,
             .reject_absent = config_.absent_mount_sources_to_reject});
  return host_paths_.Look<HostParts>(
      ctx, [wanted](HostPaths::Progress& progress) -> absl::StatusOr<HostParts> {
        HostParts parts;
        ASSIGN_OR_RETURN(parts.mounts, ResolveMountSources(
                                           wanted->config, wanted->reject_absent,
                                           [&](std::string field, std::string path) {
                                             return progress.At(std::move(field), std::move(path));
                                           }));
        RETURN_IF_ERROR(progress.At("default_mounts_file", "a source in it"));
        ASSIGN_OR_RETURN(parts.extra_mounts, ResolveNodeMounts(wanted->node_mounts));
        // From here on only so that what hangs hangs here: whoever needs these reads them later.
        struct stat status = {};
        for (int i = 0; i < wanted->config.devices_size(); ++i) {
          const std::string& path = wanted->config.devices(i).host_path();
          RETURN_IF_ERROR(progress.At(base::StrCat("devices[", i, "].host_path"), path));
          (void)stat(path.c_str(), &status);
        }
        const cri::SecurityProfile& seccomp = wanted->config.linux().security_context().seccomp();
        if (seccomp.profile_type() == cri::SecurityProfile::Localhost) {
          RETURN_IF_ERROR(
              progress.At("linux.security_context.seccomp.localhost_ref", seccomp.localhost_ref()));
          base::ReadFile(seccomp.localhost_ref()).status().IgnoreError();
        }
        RETURN_IF_ERROR(progress.At("log_directory", wanted->log_directory));
        (void)stat(wanted->log_directory.c_str(), &status);
        return parts;
      });
}

}  // namespace runtimeservice
