// A container on its way from a request to a running monitor.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "imageservice/image.h"
#include "runtimeservice/devices/container_devices.h"
#include "runtimeservice/oci/monitor.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/spec.h"

namespace runtimeservice {

// What a container takes from the host's file systems, looked at before anything is made.
struct RuntimeService::HostParts {
  std::vector<MountSource> mounts;
  std::vector<ExtraMount> extra_mounts;
};

// Filled step by step: what can be refused is looked at before anything is made.
struct RuntimeService::NewContainer {
  NewContainer(base::ContainerId id, base::PodId pod)
      : container{.id = std::move(id), .pod = std::move(pod)} {}

  Container container;
  std::string handler;  // A key of handlers_.
  imageservice::ImageProcessConfig process;
  Capabilities capabilities;
  std::shared_ptr<const SeccompFilter> seccomp;
  std::string apparmor_profile;
  SelinuxLabels selinux;
  std::vector<MountSource> mounts;
  PlannedDevices devices;
  std::vector<ExtraMount> extra_mounts;
  bool user_namespace = false;  // The pod has one of its own.
  bool mounts_staged = false;   // There may be something for ReleaseStaged.
  std::string rootfs;
  std::optional<NewMonitor> monitor;  // From the launch to the acknowledgement.
};

}  // namespace runtimeservice
