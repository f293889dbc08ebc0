// For tests: an input of BuildSpec that owns what it refers to, and a look into the result.
#pragma once

#include <string>
#include <vector>

#include "runtimeservice/spec/spec.h"

namespace runtimeservice {

// A pod with all namespaces of its own and a container that runs "/bin/true" in it, on a host with
// every capability and no cgroup v1. Change what the test is about, then Build.
struct TestInput {
  TestInput() {
    for (int number = 0; !CapabilityName(number).empty(); ++number) {
      host.capabilities.emplace_back(CapabilityName(number));
    }
    host.swap_accounting = true;
    host.architecture = "amd64";
    host.kernel = {6, 1};
    container.add_command("/bin/true");
    mutable_security()->mutable_namespace_options()->set_pid(cri::CONTAINER);
  }

  cri::LinuxContainerSecurityContext* mutable_security() {
    return container.mutable_linux()->mutable_security_context();
  }
  cri::NamespaceOption* mutable_pod_namespaces() {
    return pod.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  }
  void MakePrivileged() {
    pod.mutable_linux()->mutable_security_context()->set_privileged(true);
    mutable_security()->set_privileged(true);
  }
  // A mount of `source` and its resolved source, the same.
  cri::Mount* AddMount(const std::string& source, const std::string& destination) {
    cri::Mount* mount = container.add_mounts();
    mount->set_host_path(source);
    mount->set_container_path(destination);
    mounts.push_back({source});
    return mount;
  }

  absl::StatusOr<base::OrderedJson> Build() const {
    return BuildSpec({.pod = pod,
                      .container = container,
                      .image = image,
                      .host = host,
                      .handler = handler,
                      .defaults = defaults,
                      .seccomp = seccomp,
                      .user = user,
                      .rootfs = rootfs,
                      .cgroups_path = cgroups_path,
                      .namespaces = namespaces,
                      .pod_files = pod_files,
                      .hostname = hostname,
                      .mounts = mounts,
                      .devices = devices,
                      .apparmor_profile = apparmor_profile,
                      .selinux = selinux,
                      .annotations = annotations,
                      .sysfs = sysfs});
  }
  // The spec; where there is none the error as a string, in which nothing can be found.
  base::OrderedJson Spec() const {
    absl::StatusOr<base::OrderedJson> spec = Build();
    return spec.ok() ? *std::move(spec) : base::OrderedJson(spec.status().ToString());
  }

  cri::PodSandboxConfig pod;
  cri::ContainerConfig container;
  imageservice::ImageProcessConfig image;
  HostFacts host;
  HandlerTraits handler;
  SpecDefaults defaults;
  SeccompFilter seccomp;
  ProcessUser user = {0, 0, {0}};
  std::string rootfs = "/rootfs";
  std::string cgroups_path = "/test/crisp-test";
  NamespacePaths namespaces;
  PodFiles pod_files;
  std::string hostname = "test";
  std::vector<MountSource> mounts;
  std::vector<DeviceNode> devices;
  std::string apparmor_profile;
  SelinuxLabels selinux;
  std::map<std::string, std::string> annotations;
  std::string sysfs;
};

// The value at a JSON pointer ("/process/args"); null if there is none.
inline base::OrderedJson At(const base::OrderedJson& document, const std::string& pointer) {
  const base::OrderedJson::json_pointer path(pointer);
  return document.contains(path) ? document.at(path) : base::OrderedJson();
}

}  // namespace runtimeservice
