#include "runtimeservice/devices/container_devices.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/devices/cdi_edits.h"

namespace runtimeservice {
namespace {

// The older name and the newer one; a handler that allows one allows both.
constexpr const char* kAnnotations[] = {"devices.crio.io", "io.kubernetes.cri-o.Devices"};

bool AnnotationHonoured(const HandlerTraits& handler) {
  return std::any_of(handler.allowed_annotations.begin(), handler.allowed_annotations.end(),
                     [](const std::string& prefix) {
                       return !prefix.empty() &&
                              std::any_of(std::begin(kAnnotations), std::end(kAnnotations),
                                          [&](std::string_view name) {
                                            return name.substr(0, prefix.size()) == prefix;
                                          });
                     });
}

void AppendTo(std::vector<DeviceNode>* target, std::vector<DeviceNode> source) {
  std::move(source.begin(), source.end(), std::back_inserter(*target));
}

}  // namespace

ContainerDevices::ContainerDevices(DeviceConfig config)
    : config_(std::move(config)), cdi_(config_.cdi_spec_dirs), hooks_(config_.hooks_dirs) {}

absl::Status ContainerDevices::AddConfigured(std::vector<DeviceNode>* nodes) const {
  for (const DeviceRequest& request : config_.additional_devices) {
    absl::StatusOr<std::vector<DeviceNode>> found = FindDevices(request);
    if (!found.ok()) {
      return absl::FailedPreconditionError(base::StrCat("additional_devices of the configuration: ",
                                                        base::ToStd(found.status().message())));
    }
    AppendTo(nodes, *std::move(found));
  }
  return absl::OkStatus();
}

absl::Status ContainerDevices::AddAnnotated(const cri::PodSandboxConfig& pod,
                                            const HandlerTraits& handler,
                                            std::vector<DeviceNode>* nodes) const {
  const auto* const name =
      std::find_if(std::begin(kAnnotations), std::end(kAnnotations),
                   [&](const char* one) { return pod.annotations().count(one) > 0; });
  if (name == std::end(kAnnotations) || !AnnotationHonoured(handler)) {
    return absl::OkStatus();
  }
  const std::string field = base::StrCat("the pod's annotations[\"", *name, "\"]");
  const std::vector<std::string> texts =
      absl::StrSplit(pod.annotations().at(*name), ',', absl::SkipEmpty());
  for (const std::string& text : texts) {
    absl::StatusOr<DeviceRequest> request = ParseDeviceRequest(text);
    RETURN_IF_ERROR(base::Annotate(request.status(), field));
    if (std::find(config_.allowed_devices.begin(), config_.allowed_devices.end(),
                  request->host_path) == config_.allowed_devices.end()) {
      return absl::InvalidArgumentError(base::StrCat(field, ": ", request->host_path,
                                                     " is not among the node's allowed_devices"));
    }
    absl::StatusOr<std::vector<DeviceNode>> found = FindDevices(*request);
    RETURN_IF_ERROR(base::Annotate(found.status(), field));
    AppendTo(nodes, *std::move(found));
  }
  return absl::OkStatus();
}

absl::StatusOr<PlannedDevices> ContainerDevices::Plan(const cri::PodSandboxConfig& pod,
                                                      const cri::ContainerConfig& container,
                                                      const HandlerTraits& handler) const {
  PlannedDevices planned;
  RETURN_IF_ERROR(AddConfigured(&planned.nodes));
  RETURN_IF_ERROR(AddAnnotated(pod, handler, &planned.nodes));
  ASSIGN_OR_RETURN(std::vector<DeviceNode> requested,
                   ResolveDevices(container,
                                  handler.privileged_host_devices ? HostDevices::kIfPrivileged
                                                                  : HostDevices::kLeaveOut,
                                  config_.ownership));
  AppendTo(&planned.nodes, std::move(requested));
  planned.nodes = WithoutRepeats(std::move(planned.nodes));
  ASSIGN_OR_RETURN(planned.cdi, cdi_.Resolve(container, handler));
  return planned;
}

void ContainerDevices::Edit(const cri::PodSandboxConfig& pod, const cri::ContainerConfig& container,
                            const PlannedDevices& planned, base::OrderedJson* spec) {
  ApplyCdiEdits(planned.cdi, spec);
  hooks_.Apply(pod, container, spec);
}

}  // namespace runtimeservice
