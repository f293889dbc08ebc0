// Limits: the request's resources as linux.resources (OCI runtime-spec, config-linux).
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "proto/cri.h"
#include "runtimeservice/spec/host_facts.h"

namespace runtimeservice {

// The memory, cpu, hugepageLimits and unified members; absent what is not given (0), and on v1 a CPU
// quota of -1. Also the input of the runtime's `update`. INVALID_ARGUMENT for contradictions, FAILED_PRECONDITION for what the
// host's kernel lacks; errors name the field, below `message`: where in the request it is. Pure.
absl::StatusOr<base::OrderedJson> LinuxResources(const cri::LinuxContainerResources& resources,
                                                 const HostFacts& host, int64_t min_memory_bytes,
                                                 std::string_view message = "linux.resources.");

// The OOM score for the container: the request's, raised to what the daemon may give.
// INVALID_ARGUMENT beyond -1000 and 1000.
absl::StatusOr<int> OomScoreAdj(const cri::LinuxContainerResources& resources,
                                const HostFacts& host,
                                std::string_view message = "linux.resources.");

}  // namespace runtimeservice
