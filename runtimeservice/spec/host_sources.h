// The host's side of a container's mounts and devices: everything BuildSpec needs from system
// calls.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/cri.h"

namespace runtimeservice {

// One mount of a request, ready for the runtime.
struct MountSource {
  std::string path;       // Absolute, without symlinks.
  bool directory = true;  // Known for recursive_read_only alone.
};

// A device node for a container.
struct DeviceNode {
  char type = 'c';   // 'c' or 'b'.
  std::string path;  // In the container.
  uint32_t major = 0;
  uint32_t minor = 0;
  uint32_t mode = 0;  // Permission bits.
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string access = "rwm";
};

// The sources of `config`'s mounts, one per mount, in order: symlinks resolved, missing directories
// made (0755). INVALID_ARGUMENT for a contradictory mount, FAILED_PRECONDITION when the source's
// mount has not the propagation that is asked for; errors name the field ("mounts[2].host_path").
// An image volume's is left empty: it is mounted later (image_volumes.cc).
// May block as long as the file systems it asks.
absl::StatusOr<std::vector<MountSource>> ResolveMountSources(const cri::ContainerConfig& config);

// The devices of `config`; a directory stands for every device in it. For a privileged container
// also each of the host's, unless `host_devices` is false. INVALID_ARGUMENT, naming the field, for
// a missing device or bad permissions.
absl::StatusOr<std::vector<DeviceNode>> ResolveDevices(const cri::ContainerConfig& config,
                                                       bool host_devices = true);

}  // namespace runtimeservice
