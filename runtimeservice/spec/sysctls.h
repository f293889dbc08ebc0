// The kernel parameters of a pod's namespaces.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/cri.h"

namespace runtimeservice {

enum class SysctlNamespace { kNone, kIpc, kNet };

// Which namespace holds the parameter `name` ("net.ipv4.ip_forward").
SysctlNamespace NamespaceOfSysctl(const std::string& name);

// OK for a parameter of a pod's namespaces, "net.ipv4.ip_forward" or "net/ipv4/ip_forward";
// INVALID_ARGUMENT for one of no namespace and for a malformed name or value.
absl::Status CheckSysctl(const std::string& name, const std::string& value);

// What to set in the pod's own namespaces, by dotted names: the request's sysctls over `defaults`.
// Defaults whose namespace is the host's are left out. INVALID_ARGUMENT, naming the field, when the
// request has one that is not namespaced, whose namespace is the host's, or malformed. Pure.
absl::StatusOr<std::map<std::string, std::string>> PodSysctls(
    const cri::PodSandboxConfig& pod, const std::map<std::string, std::string>& defaults);

}  // namespace runtimeservice
