// Which capabilities a container gets (runtime.v1 Capability).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/cri.h"
#include "runtimeservice/spec/host_facts.h"

namespace runtimeservice {

// "CAP_…" names in the kernel's order.
using Capabilities = std::vector<std::string>;

// The bit of a capability named "CAP_CHOWN"; -1 for an unknown one.
int CapabilityNumber(std::string_view name);
// The name of a bit; empty beyond the last known one.
std::string_view CapabilityName(int number);

// "chown", "CAP_CHOWN" … as "CAP_CHOWN"; INVALID_ARGUMENT for an unknown name.
absl::StatusOr<std::string> ParseCapability(std::string_view name);

// The bounding, effective and permitted set of a container. Privileged: all the daemon holds. Else
// `defaults` (those the daemon holds), then add ALL, drop ALL, each add and each ambient one, each
// drop.
// INVALID_ARGUMENT for an unknown name, FAILED_PRECONDITION for an added one that the daemon lacks;
// both name the field. Pure.
absl::StatusOr<Capabilities> ContainerCapabilities(
    const cri::LinuxContainerSecurityContext& security, const Capabilities& defaults,
    const HostFacts& host);

// The ambient and inheritable set of a container whose bounding set is `bounding`: what
// add_ambient_capabilities names, ALL for all, less what is dropped. Nothing else: these pass to
// every program that is executed. INVALID_ARGUMENT for an unknown name. Pure.
absl::StatusOr<Capabilities> AmbientCapabilities(const cri::LinuxContainerSecurityContext& security,
                                                 const Capabilities& bounding);

}  // namespace runtimeservice
