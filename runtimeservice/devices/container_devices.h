// What a container gets of the host by the request and by the node's configuration: devices, CDI
// devices, hooks.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "proto/cri.h"
#include "runtimeservice/devices/cdi_registry.h"
#include "runtimeservice/devices/oci_hooks.h"
#include "runtimeservice/spec/device_nodes.h"
#include "runtimeservice/spec/spec.h"

namespace runtimeservice {

// The node's configuration of devices and hooks.
struct DeviceConfig {
  std::vector<DeviceRequest> additional_devices;  // For every container.
  std::vector<std::string> allowed_devices;       // What the annotation may ask for: host paths.
  DeviceOwnership ownership = DeviceOwnership::kHost;
  std::vector<std::string> cdi_spec_dirs;  // Later ones win.
  std::vector<std::string> hooks_dirs;     // Later ones win.
};

// What a container gets, looked up before anything of it is made.
struct PlannedDevices {
  std::vector<DeviceNode> nodes;  // For BuildSpec.
  CdiEdits cdi;                   // For ContainerDevices::Edit.
};

// Thread-safe.
class ContainerDevices {
 public:
  explicit ContainerDevices(DeviceConfig config);

  // The devices of every container, of the pod's annotation io.kubernetes.cri-o.Devices (also
  // called devices.crio.io; nothing where `handler` does not allow it), of the host for a
  // privileged container, and of the request, each of which may replace an earlier one at the same
  // path; and the CDI devices. INVALID_ARGUMENT, naming the field, for what the request asks for
  // and cannot have; FAILED_PRECONDITION for what the configuration asks for and the host does not
  // have. Looks at paths of the host: may block as long as their file systems.
  absl::StatusOr<PlannedDevices> Plan(const cri::PodSandboxConfig& pod,
                                      const cri::ContainerConfig& container,
                                      const HandlerTraits& handler) const;

  // Puts the edits of `planned` and then the node's hooks for the container into `spec`, which
  // BuildSpec made.
  void Edit(const cri::PodSandboxConfig& pod, const cri::ContainerConfig& container,
            const PlannedDevices& planned, base::OrderedJson* spec);

 private:
  absl::Status AddConfigured(std::vector<DeviceNode>* nodes) const;
  absl::Status AddAnnotated(const cri::PodSandboxConfig& pod, const HandlerTraits& handler,
                            std::vector<DeviceNode>* nodes) const;

  const DeviceConfig config_;
  mutable CdiRegistry cdi_;
  OciHooks hooks_;
};

}  // namespace runtimeservice
