// The annotations of config.json, where runtimes, hooks and plugins act on them: which of a request
// get there, and what crisp says of itself.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proto/cri.h"

namespace runtimeservice {

// Whether users may hand `name` to the runtime: it begins with one of the handler's `allowed`
// prefixes, with none of the `disallowed`, and is not one of those that only the daemon sets
// (run.oci., org.systemd.property., io.kubernetes.cri): they replace the seccomp filter, choose the
// container's cgroup or say which sandbox it belongs to.
bool AnnotationAllowed(std::string_view name, const std::vector<std::string>& allowed,
                       const std::vector<std::string>& disallowed = {});

// The allowed annotations of pod and container; the container's win. Pure.
std::map<std::string, std::string> AllowedAnnotations(
    const cri::PodSandboxConfig& pod, const cri::ContainerConfig& container,
    const std::vector<std::string>& allowed, const std::vector<std::string>& disallowed = {});

// What pod and container are to the caller, for IdentityAnnotations. Borrowed.
struct ContainerIdentity {
  const cri::PodSandboxConfig& pod;
  const cri::ContainerConfig& container;
  const std::string& pod_id;
  const std::string& container_id;
  const std::string& image_id;  // Empty for the container that holds a sandbox.
  const std::string& log_path;  // Empty: no log.
  bool holds_sandbox = false;
};

// What runtimes that group containers into sandboxes, hooks and plugins look for, under the names
// of both families that they know: io.kubernetes.cri.* (containerd's) and io.kubernetes.cri-o.*.
// Some 1.5 KiB at most besides names. Pure.
std::map<std::string, std::string> IdentityAnnotations(const ContainerIdentity& identity);

}  // namespace runtimeservice
