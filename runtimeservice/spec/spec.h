// The OCI config.json of one container, as a pure function of everything that decides it.
//
// The order of a create: ContainerCapabilities, SeccompFilters::Get, AppArmorProfiles::Get,
// ResolveMountSources, ContainerDevices::Plan (all before anything is made), then with the mounted
// rootfs ResolveUser, BuildSpec, ContainerDevices::Edit.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "imageservice/image.h"
#include "proto/cri.h"
#include "runtimeservice/spec/capabilities.h"
#include "runtimeservice/spec/device_nodes.h"
#include "runtimeservice/spec/host_facts.h"
#include "runtimeservice/spec/host_sources.h"
#include "runtimeservice/spec/pod_files.h"
#include "runtimeservice/spec/seccomp.h"
#include "runtimeservice/spec/selinux.h"
#include "runtimeservice/spec/user.h"

namespace runtimeservice {

// What a runtime handler can and may do.
struct HandlerTraits {
  std::vector<std::string> allowed_annotations;            // Prefixes; see annotations.h.
  std::vector<std::string> disallowed_annotations;         // Exceptions from these.
  std::map<std::string, std::string> default_annotations;  // Unless the request has others.
  bool sandboxed = false;               // One sandbox holds the whole pod: gVisor.
  std::string oci_version = "1.0.2";    // Of the specification that config.json claims.
  bool recursive_read_only = false;     // Its runtime knows the mount option rro.
  bool user_namespaces = false;         // Its runtime joins a user namespace by its path.
  bool compiled_seccomp = false;        // It takes run.oci.seccomp_bpf_data: crun.
  int64_t min_memory_bytes = 0;         // The least limit its runtime starts with.
  bool privileged_host_devices = true;  // Privileged containers get the host's devices.
  bool net_devices = false;             // Its runtime knows linux.netDevices.
  bool intel_rdt_schemata = false;      // And linux.intelRdt's schemata and enableMonitoring.
};

// A limit of setrlimit(2): "RLIMIT_NOFILE", ….
struct Ulimit {
  std::string type;
  uint64_t soft = 0;
  uint64_t hard = 0;
};

// The node's configuration for all containers.
struct SpecDefaults {
  Capabilities capabilities = {"CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FOWNER",
                               "CAP_FSETID", "CAP_KILL",         "CAP_SETGID",
                               "CAP_SETUID", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE"};
  std::vector<std::string> env;  // "NAME=value"; image and request override them.
  std::vector<Ulimit> ulimits;
  std::map<std::string, std::string> sysctls;
  int64_t pids_limit = 0;         // 0: none.
  bool read_only_rootfs = false;  // With a tmpfs on /run, /tmp and /var/tmp.
};

// Paths of namespaces to join. An empty one: the host's if the options say NODE, else a new one.
struct NamespacePaths {
  std::string net;
  std::string ipc;
  std::string uts;
  std::string pid;        // Of the pod's infra container (POD) or of the target container (TARGET).
  std::string user = {};  // Where the pod has one of its own.
};

// Borrowed references must outlive the call only.
struct SpecInput {
  const cri::PodSandboxConfig& pod;  // As the pod was made with.
  const cri::ContainerConfig& container;
  const imageservice::ImageProcessConfig& image;
  const HostFacts& host;
  const HandlerTraits& handler;
  const SpecDefaults& defaults;
  const SeccompFilter& seccomp;

  ProcessUser user;
  std::string rootfs;                    // Absolute.
  std::string cgroups_path;              // From CgroupPath.
  NamespacePaths namespaces = {};        //
  PodFiles pod_files = {};               //
  std::string hostname = {};             // From PodHostname.
  std::vector<MountSource> mounts = {};  // From ResolveMountSources: one per mount, in order.
  std::vector<DeviceNode> devices = {};  // From ContainerDevices::Plan.
  std::string apparmor_profile = {};     // From AppArmorProfiles::Get.
  std::vector<ExtraMount> extra_mounts = {};
  SelinuxLabels selinux = {};                           // From Selinux::ForContainer.
  std::map<std::string, std::string> annotations = {};  // The daemon's own; they win.
  std::string sysfs = {};  // Bound on /sys where the container's user namespace may not mount one.
};

// The config.json. INVALID_ARGUMENT for a request that contradicts itself, FAILED_PRECONDITION for
// one that this host or handler cannot serve; errors name the field. Pure: no system calls.
absl::StatusOr<base::OrderedJson> BuildSpec(const SpecInput& input);

// The command line: the request's command and args, or the image's where it has none.
// INVALID_ARGUMENT when nothing is left. Pure.
absl::StatusOr<std::vector<std::string>> CommandLine(const cri::ContainerConfig& container,
                                                     const imageservice::ImageProcessConfig& image);

}  // namespace runtimeservice
