// Pods of runtimes that keep all their containers in one sandbox, such as gVisor's runsc.
#pragma once

#include "absl/status/status.h"
#include "proto/cri.h"
#include "runtimeservice/handlers.h"

namespace runtimeservice {

// OK unless the pod wants what a sandbox cannot give: FAILED_PRECONDITION, with the field's name,
// for a namespace of the host's. The host's network is fine for a runtime that was told so.
absl::Status CheckSandbox(const Handler& handler, const cri::PodSandboxConfig& config);

}  // namespace runtimeservice
