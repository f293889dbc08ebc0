// Checks of requests that need nothing but the request; errors are INVALID_ARGUMENT and name the
// field.
#pragma once

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"
#include "proto/cri.h"

namespace runtimeservice {

// `present`: whether the request has a config at all. Metadata, namespace options, log directory.
absl::Status CheckPodConfig(const cri::PodSandboxConfig& config, bool present);

// Metadata, image, log path, namespace options as far as they need no pod.
absl::Status CheckContainerConfig(const cri::ContainerConfig& config, bool present);

// The namespaces a container runs in: its own choice, its pod's where it makes none.
const cri::NamespaceOption& EffectiveNamespaces(const cri::PodSandboxConfig& pod,
                                                const cri::ContainerConfig& container);

// Whether two messages of one type are equal.
bool SameMessage(const google::protobuf::MessageLite& a, const google::protobuf::MessageLite& b);

}  // namespace runtimeservice
