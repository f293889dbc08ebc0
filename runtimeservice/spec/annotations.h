// Which annotations of a request reach config.json, where runtimes and hooks act on them.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proto/cri.h"

namespace runtimeservice {

// Whether users may hand `name` to the runtime: it begins with one of the handler's `allowed`
// prefixes and is not one of those that only the daemon sets (run.oci., org.systemd.property.,
// io.kubernetes.cri): they replace the seccomp filter or choose the container's cgroup.
bool AnnotationAllowed(std::string_view name, const std::vector<std::string>& allowed);

// The allowed annotations of pod and container; the container's win. Pure.
std::map<std::string, std::string> AllowedAnnotations(const cri::PodSandboxConfig& pod,
                                                      const cri::ContainerConfig& container,
                                                      const std::vector<std::string>& allowed);

}  // namespace runtimeservice
