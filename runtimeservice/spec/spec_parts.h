// Inside of runtimeservice/spec: the parts BuildSpec puts together.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/json.h"
#include "proto/cri.h"
#include "runtimeservice/spec/spec.h"

namespace runtimeservice {

// The members "process", "mounts" and "linux" of config.json.
absl::StatusOr<base::OrderedJson> ProcessPart(const SpecInput& input);
absl::StatusOr<base::OrderedJson> MountsPart(const SpecInput& input);
absl::StatusOr<base::OrderedJson> LinuxPart(const SpecInput& input);

// The modes of the container's namespaces: network and IPC are the pod's, PID its own choice.
struct NamespaceModes {
  cri::NamespaceMode network = cri::POD;
  cri::NamespaceMode ipc = cri::POD;
  cri::NamespaceMode pid = cri::POD;
};

// INVALID_ARGUMENT for modes that make no sense, FAILED_PRECONDITION for user namespaces.
absl::StatusOr<NamespaceModes> ContainerNamespaces(const SpecInput& input);

// `path` from the container's root: absolute, "." and ".." resolved by text. INVALID_ARGUMENT for
// an empty path, the root itself and one with a NUL.
absl::StatusOr<std::string> ContainerPath(std::string_view path);

// Whether the source of a mount is an image.
inline bool IsImageVolume(const cri::Mount& mount) { return !mount.image().image().empty(); }

// What the kubelet wants to read first when a volume is an image and cannot be mounted; and when a
// mount cannot be made read-only with all below it.
inline constexpr std::string_view kImageVolumeFailed = "ImageVolumeMountFailed: ";
inline constexpr std::string_view kRecursiveReadOnlyUnsupported = "RROUnsupported: ";

// INVALID_ARGUMENT, naming the field, for a mount whose options contradict each other.
absl::Status CheckMounts(const cri::ContainerConfig& config);

inline const cri::LinuxContainerSecurityContext& Security(const SpecInput& input) {
  return input.container.linux().security_context();
}

inline bool ReadOnlyRootfs(const SpecInput& input) {
  return Security(input).readonly_rootfs() || input.defaults.read_only_rootfs;
}

}  // namespace runtimeservice
