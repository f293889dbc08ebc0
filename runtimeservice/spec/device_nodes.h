// The device nodes of a container, looked up on the host: what BuildSpec needs of devices from
// system calls.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/cri.h"

namespace runtimeservice {

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

// A device that is asked for: by the kubelet, the node's configuration or an annotation.
struct DeviceRequest {
  std::string host_path;
  std::string container_path;  // Empty: as on the host.
  std::string access;          // Of "r", "w", "m", each at most once; empty: all.
};

// "HOST[:CONTAINER][:PERMISSIONS]", as CRI-O has it in additional_devices. INVALID_ARGUMENT for
// relative paths, other permissions and a place in the container outside /dev.
absl::StatusOr<DeviceRequest> ParseDeviceRequest(std::string_view text);

// The device, or every device in the directory, at `request.host_path`; symlinks in the path are
// followed, those in a directory are not. INVALID_ARGUMENT, beginning with the member's name
// ("host_path: "), for what is missing or neither device nor directory and for bad permissions.
absl::StatusOr<std::vector<DeviceNode>> FindDevices(const DeviceRequest& request);

// Whether a privileged container gets the host's devices.
enum class HostDevices { kLeaveOut, kIfPrivileged };
// Whether requested devices keep the host's owner or go to run_as_user and run_as_group (those that
// are there and not 0).
enum class DeviceOwnership { kHost, kSecurityContext };

// The devices of `config`: the host's for a privileged container, then those requested.
// INVALID_ARGUMENT, naming the field ("devices[1].host_path"), for one that FindDevices refuses and
// for one of a privileged container whose other place in the container is a path of the host. A
// path may come more than once.
absl::StatusOr<std::vector<DeviceNode>> ResolveDevices(
    const cri::ContainerConfig& config, HostDevices host_devices = HostDevices::kIfPrivileged,
    DeviceOwnership ownership = DeviceOwnership::kHost);

// `devices` by path; of those with one path the last.
std::vector<DeviceNode> WithoutRepeats(std::vector<DeviceNode> devices);

}  // namespace runtimeservice
