// The "linux" part of config.json: namespaces, limits, devices, seccomp, hidden paths.
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/resources.h"
#include "runtimeservice/spec/spec_parts.h"
#include "runtimeservice/spec/sysctls.h"
#include "runtimeservice/spec/user_namespace.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;

constexpr std::string_view kOptions = "linux.security_context.namespace_options.";

OrderedJson NamespaceEntry(const char* type, const std::string& path) {
  OrderedJson entry = {{"type", type}};
  if (!path.empty()) {
    entry["path"] = path;
  }
  return entry;
}

OrderedJson NamespacesPart(const SpecInput& input, const NamespaceModes& modes) {
  OrderedJson part = OrderedJson::array();
  part.push_back(NamespaceEntry("mount", ""));
  if (modes.network != cri::NODE) {
    part.push_back(NamespaceEntry("network", input.namespaces.net));
    part.push_back(NamespaceEntry("uts", input.namespaces.uts));
  }
  if (modes.ipc != cri::NODE) {
    part.push_back(NamespaceEntry("ipc", input.namespaces.ipc));
  }
  // What a sandbox's containers share is its own first namespace, which has no path here.
  const bool in_sandbox = input.handler.sandboxed && modes.pid == cri::POD;
  if (modes.pid != cri::NODE && !in_sandbox) {
    const bool joined = modes.pid != cri::CONTAINER;
    part.push_back(NamespaceEntry("pid", joined ? input.namespaces.pid : ""));
  }
  // Within a user namespace cgroups can only be mounted as one of its own shows them.
  if (input.host.cgroup_mode == base::CgroupMode::kV2 &&
      (!Security(input).privileged() || PodIdMap(input.pod).has_value())) {
    part.push_back(NamespaceEntry("cgroup", ""));
  }
  return part;
}

OrderedJson DeviceRules(const SpecInput& input) {
  if (Security(input).privileged() && input.handler.privileged_host_devices) {
    return OrderedJson::array({{{"allow", true}, {"access", "rwm"}}});
  }
  OrderedJson rules = OrderedJson::array({{{"allow", false}, {"access", "rwm"}}});
  for (const DeviceNode& device : input.devices) {
    rules.push_back({{"allow", true},
                     {"type", std::string(1, device.type)},
                     {"major", device.major},
                     {"minor", device.minor},
                     {"access", device.access}});
  }
  return rules;
}

OrderedJson DevicesPart(const SpecInput& input) {
  OrderedJson part = OrderedJson::array();
  for (const DeviceNode& device : input.devices) {
    part.push_back({{"path", device.path},
                    {"type", std::string(1, device.type)},
                    {"major", device.major},
                    {"minor", device.minor},
                    {"fileMode", device.mode},
                    {"uid", device.uid},
                    {"gid", device.gid}});
  }
  return part;
}

absl::StatusOr<OrderedJson> ResourcesPart(const SpecInput& input) {
  ASSIGN_OR_RETURN(OrderedJson part, LinuxResources(input.container.linux().resources(), input.host,
                                                    input.handler.min_memory_bytes));
  part["devices"] = DeviceRules(input);
  // Not even an object without a limit: crun takes that for 0.
  if (input.defaults.pids_limit > 0) {
    part["pids"] = {{"limit", input.defaults.pids_limit}};
  }
  return part;
}

// Those of namespaces that the runtime makes; the pod's own were set when they were made.
absl::StatusOr<OrderedJson> SysctlPart(const SpecInput& input, const NamespaceModes& modes) {
  OrderedJson part = OrderedJson::object();
  const bool new_net = modes.network != cri::NODE && input.namespaces.net.empty();
  const bool new_ipc = modes.ipc != cri::NODE && input.namespaces.ipc.empty();
  if (!new_net && !new_ipc) {
    return part;
  }
  ASSIGN_OR_RETURN(const auto sysctls, PodSysctls(input.pod, input.defaults.sysctls));
  for (const auto& [name, value] : sysctls) {
    const SysctlNamespace holder = NamespaceOfSysctl(name);
    if ((holder == SysctlNamespace::kNet && new_net) ||
        (holder == SysctlNamespace::kIpc && new_ipc)) {
      part[name] = value;
    }
  }
  return part;
}

// The strongest propagation any mount needs: the root must not cut its mounts off.
const char* RootfsPropagation(const cri::ContainerConfig& container) {
  const char* result = "rprivate";
  for (const cri::Mount& mount : container.mounts()) {
    if (mount.propagation() == cri::PROPAGATION_BIDIRECTIONAL) {
      return "rshared";
    }
    if (mount.propagation() == cri::PROPAGATION_HOST_TO_CONTAINER) {
      result = "rslave";
    }
  }
  return result;
}

template <typename Paths>
absl::StatusOr<OrderedJson> PathsPart(const Paths& paths, std::string_view field) {
  OrderedJson part = OrderedJson::array();
  for (int i = 0; i < paths.size(); ++i) {
    if (paths[i].empty() || paths[i].front() != '/' || paths[i].find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          base::StrCat("linux.security_context.", field, "[", i, "]: not an absolute path"));
    }
    part.push_back(paths[i]);
  }
  return part;
}

// What an unprivileged container is kept from.
absl::Status AddConfinement(const SpecInput& input, OrderedJson* part) {
  if (Security(input).privileged()) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN((*part)["maskedPaths"],
                   PathsPart(Security(input).masked_paths(), "masked_paths"));
  ASSIGN_OR_RETURN((*part)["readonlyPaths"],
                   PathsPart(Security(input).readonly_paths(), "readonly_paths"));
  if (!input.seccomp.profile.is_null()) {
    (*part)["seccomp"] = input.seccomp.profile;
  }
  return absl::OkStatus();
}

// A joined user namespace's maps are repeated: runtimes reckon with them.
void AddUserNamespace(const SpecInput& input, OrderedJson* part) {
  const std::optional<base::IdMap> map = PodIdMap(input.pod);
  if (!map.has_value()) {
    return;
  }
  const auto mapping = [](const base::IdRange& range) {
    return OrderedJson::array(
        {{{"containerID", range.inside}, {"hostID", range.outside}, {"size", range.length}}});
  };
  (*part)["namespaces"].push_back(NamespaceEntry("user", input.namespaces.user));
  (*part)["uidMappings"] = mapping(map->uids);
  (*part)["gidMappings"] = mapping(map->gids);
}

}  // namespace

absl::StatusOr<NamespaceModes> ContainerNamespaces(const SpecInput& input) {
  const cri::NamespaceOption& pod = input.pod.linux().security_context().namespace_options();
  const cri::NamespaceOption& own =
      Security(input).has_namespace_options() ? Security(input).namespace_options() : pod;
  const NamespaceModes modes = {pod.network(), pod.ipc(), own.pid()};
  for (const auto& [mode, name] :
       {std::pair(modes.network, "network"), std::pair(modes.ipc, "ipc")}) {
    if (mode != cri::POD && mode != cri::NODE) {
      return absl::InvalidArgumentError(
          base::StrCat("the pod's ", kOptions, name, ": neither POD nor NODE"));
    }
  }
  if (!cri::NamespaceMode_IsValid(modes.pid)) {
    return absl::InvalidArgumentError(base::StrCat(kOptions, "pid: unknown value"));
  }
  if (modes.pid == cri::TARGET && input.namespaces.pid.empty()) {
    return absl::InvalidArgumentError(base::StrCat(kOptions, "target_id: no such namespace"));
  }
  constexpr std::string_view kWhere = "linux.security_context";
  RETURN_IF_ERROR(CheckUserNamespace(pod, base::StrCat("the pod's ", kWhere)));
  RETURN_IF_ERROR(CheckUserNamespace(own, kWhere));
  return modes;
}

absl::StatusOr<OrderedJson> LinuxPart(const SpecInput& input) {
  ASSIGN_OR_RETURN(const NamespaceModes modes, ContainerNamespaces(input));
  OrderedJson part = OrderedJson::object();
  part["namespaces"] = NamespacesPart(input, modes);
  AddUserNamespace(input, &part);
  ASSIGN_OR_RETURN(part["resources"], ResourcesPart(input));
  part["cgroupsPath"] = input.cgroups_path;
  part["devices"] = DevicesPart(input);
  part["rootfsPropagation"] = RootfsPropagation(input.container);
  ASSIGN_OR_RETURN(OrderedJson sysctls, SysctlPart(input, modes));
  if (!sysctls.empty()) {
    part["sysctl"] = std::move(sysctls);
  }
  if (!input.selinux.mount.empty()) {
    part["mountLabel"] = input.selinux.mount;
  }
  RETURN_IF_ERROR(AddConfinement(input, &part));
  return part;
}

}  // namespace runtimeservice
