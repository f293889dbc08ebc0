// The host ports of a pod: what a request may ask for.
#pragma once

#include "absl/status/status.h"
#include "proto/cri.h"

namespace runtimeservice {

// INVALID_ARGUMENT, naming `config.port_mappings[i]` and its field, for a port or protocol that is
// none, a host address that is none, and a host port that is asked for twice. Mappings without a
// host port ask for nothing. A pod on the host's network has no mappings: what it repeats is
// accepted.
absl::Status CheckPortMappings(const cri::PodSandboxConfig& config);

}  // namespace runtimeservice
