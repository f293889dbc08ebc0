// What CDI devices change in a container's config.json (CDI 1.1.0, "containerEdits").
#pragma once

#include "absl/status/status.h"
#include "base/json.h"
#include "runtimeservice/devices/cdi_spec.h"
#include "runtimeservice/spec/spec.h"

namespace runtimeservice {

// Looks up on the host what the device nodes leave open: type, numbers, mode. FAILED_PRECONDITION,
// naming the path, for one that is not there or of another type.
absl::Status CompleteDeviceNodes(CdiEdits* edits);

// FAILED_PRECONDITION for what a handler's runtime would ignore without a word.
absl::Status CheckCdiEdits(const CdiEdits& edits, const HandlerTraits& handler);

// Changes `spec`, which BuildSpec made; device nodes are complete. In a container with a user
// namespace mounts are mapped as its root file system is. Pure.
void ApplyCdiEdits(const CdiEdits& edits, base::OrderedJson* spec);

}  // namespace runtimeservice
