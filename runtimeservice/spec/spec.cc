#include "runtimeservice/spec/spec.h"

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/annotations.h"
#include "runtimeservice/spec/spec_parts.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;

// crun takes a compiled filter by this annotation, which overrides linux.seccomp.
constexpr char kCompiledSeccomp[] = "run.oci.seccomp_bpf_data";

absl::Status CheckRequest(const SpecInput& input) {
  if (Security(input).privileged() && !input.pod.linux().security_context().privileged()) {
    return absl::InvalidArgumentError(
        "linux.security_context.privileged: the pod is not privileged");
  }
  if (input.mounts.size() != static_cast<size_t>(input.container.mounts_size())) {
    return absl::InternalError(base::StrCat("mounts: ", input.container.mounts_size(),
                                            " requested, ", input.mounts.size(), " resolved"));
  }
  if (input.rootfs.empty() || input.rootfs.front() != '/') {
    return absl::InternalError("the root file system's path is not absolute");
  }
  return absl::OkStatus();
}

OrderedJson Annotations(const SpecInput& input) {
  std::map<std::string, std::string> annotations =
      AllowedAnnotations(input.pod, input.container, input.handler.allowed_annotations,
                         input.handler.disallowed_annotations);
  annotations.insert(input.handler.default_annotations.begin(),
                     input.handler.default_annotations.end());
  for (const auto& [name, value] : input.annotations) {
    annotations[name] = value;
  }
  if (input.handler.compiled_seccomp && !input.seccomp.bpf_base64.empty() &&
      !Security(input).privileged()) {
    annotations[kCompiledSeccomp] = input.seccomp.bpf_base64;
  }
  OrderedJson result = OrderedJson::object();
  for (auto& [name, value] : annotations) {
    result[name] = std::move(value);
  }
  return result;
}

}  // namespace

absl::StatusOr<OrderedJson> BuildSpec(const SpecInput& input) {
  RETURN_IF_ERROR(CheckRequest(input));
  OrderedJson spec = OrderedJson::object();
  spec["ociVersion"] = input.handler.oci_version;
  ASSIGN_OR_RETURN(spec["process"], ProcessPart(input));
  spec["root"] = {{"path", input.rootfs}, {"readonly", ReadOnlyRootfs(input)}};
  ASSIGN_OR_RETURN(const NamespaceModes modes, ContainerNamespaces(input));
  if (modes.network != cri::NODE && input.namespaces.uts.empty() && !input.hostname.empty()) {
    spec["hostname"] = input.hostname;  // A joined namespace has its name already.
  }
  ASSIGN_OR_RETURN(spec["mounts"], MountsPart(input));
  ASSIGN_OR_RETURN(spec["linux"], LinuxPart(input));
  OrderedJson annotations = Annotations(input);
  if (!annotations.empty()) {
    spec["annotations"] = std::move(annotations);
  }
  return spec;
}

}  // namespace runtimeservice
