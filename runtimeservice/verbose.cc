// What verbose answers add: the `info` of pods, containers and the daemon, as JSON under the names
// that tools read from CRI-O and containerd.
#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "network/network_plan.h"
#include "runtimeservice/requests.h"
#include "runtimeservice/runtime_service.h"

namespace runtimeservice {
namespace {

using base::Json;

template <typename Strings>
Json ListJson(const Strings& strings) {
  Json list = Json::array();
  for (const std::string& text : strings) {
    list.push_back(text);
  }
  return list;
}

template <typename Map>
Json MapJson(const Map& map) {
  Json object = Json::object();
  for (const auto& [name, value] : map) {
    object[name] = value;
  }
  return object;
}

Json NamespacesJson(const cri::NamespaceOption& options) {
  constexpr const char* kModes[] = {"POD", "CONTAINER", "NODE", "TARGET"};
  const auto mode = [&](int value) { return value >= 0 && value < 4 ? kModes[value] : "?"; };
  Json object = {{"network", mode(options.network())},
                 {"pid", mode(options.pid())},
                 {"ipc", mode(options.ipc())}};
  if (!options.target_id().empty()) {
    object["target_id"] = options.target_id();
  }
  return object;
}

// The request as it was recorded, by the names of its fields; what is sensitive in it is the
// caller's own and what is long (mounts, resources) is in the status and in the runtime's spec.
Json ConfigJson(const cri::ContainerConfig& config) {
  Json environment = Json::array();
  for (const cri::KeyValue& variable : config.envs()) {
    environment.push_back({{"key", variable.key()}, {"value", variable.value()}});
  }
  return {
      {"metadata", {{"name", config.metadata().name()}, {"attempt", config.metadata().attempt()}}},
      {"image",
       {{"image", config.image().image()},
        {"user_specified_image", config.image().user_specified_image()}}},
      {"command", ListJson(config.command())},
      {"args", ListJson(config.args())},
      {"working_dir", config.working_dir()},
      {"envs", std::move(environment)},
      {"labels", MapJson(config.labels())},
      {"annotations", MapJson(config.annotations())},
      {"log_path", config.log_path()},
      {"stdin", config.stdin()},
      {"stdin_once", config.stdin_once()},
      {"tty", config.tty()}};
}

Json ConfigJson(const cri::PodSandboxConfig& config) {
  return {{"metadata",
           {{"name", config.metadata().name()},
            {"namespace", config.metadata().namespace_()},
            {"uid", config.metadata().uid()},
            {"attempt", config.metadata().attempt()}}},
          {"hostname", config.hostname()},
          {"log_directory", config.log_directory()},
          {"labels", MapJson(config.labels())},
          {"annotations", MapJson(config.annotations())},
          {"linux",
           {{"cgroup_parent", config.linux().cgroup_parent()},
            {"sysctls", MapJson(config.linux().sysctls())},
            {"security_context",
             {{"privileged", config.linux().security_context().privileged()},
              {"namespace_options",
               NamespacesJson(config.linux().security_context().namespace_options())}}}}}};
}

// The config.json in a bundle; null when it is gone.
Json SpecJson(const std::string& bundle) {
  const absl::StatusOr<std::string> text = base::ReadFile(bundle + "/config.json");
  const absl::StatusOr<Json> spec = text.ok() ? base::ParseJson(*text) : text.status();
  return spec.ok() ? *spec : Json();
}

}  // namespace

std::string RuntimeService::ContainerInfo(const Container& container) const {
  const state::ContainerRecord& record = container.record;
  const bool ended = container.exit.has_value();
  Json info = {
      {"sandboxID", container.pod.str()},
      {"pid", ended ? 0 : container.pid},
      {"removing", record.state() == state::ContainerRecord::REMOVING},
      {"privileged", record.config().linux().security_context().privileged()},
      {"runtimeType", "oci"},
      {"runtimePath", record.runtime_path()},
      {"runtimeRoot", record.runtime_root()},
      {"bundle", paths_.Container(container.id)},
      {"cgroup", record.cgroup()},
      {"config", ConfigJson(record.config())},
  };
  if (const PodRef pod = registry_->FindPod(container.pod)) {
    const std::string& handler = pod->record.runtime_handler();
    info["runtimeHandler"] = handler.empty() ? config_.default_handler : handler;
  }
  if (Json spec = SpecJson(paths_.Container(container.id)); !spec.is_null()) {
    info["runtimeSpec"] = std::move(spec);
  }
  return base::DumpJson(info);
}

std::string RuntimeService::PodInfo(const Pod& pod) const {
  const state::PodRecord& record = pod.record;
  Json info = {{"pid", 0},
               {"image", ""},  // No image is needed for what holds a pod.
               {"runtimeHandler", record.runtime_handler().empty() ? config_.default_handler
                                                                   : record.runtime_handler()},
               {"runtimeType", "oci"},
               {"cgroupParent", record.cgroup_parent()},
               {"config", ConfigJson(record.config())}};
  const absl::StatusOr<base::ContainerId> infra =
      base::ContainerId::Parse(record.infra_container_id());
  if (infra.ok()) {
    if (const ContainerRef holder = registry_->FindContainer(*infra)) {
      info["pid"] = holder->exit.has_value() ? 0 : holder->pid;
      info["infraContainerID"] = holder->id.str();
      if (Json spec = SpecJson(paths_.Container(holder->id)); !spec.is_null()) {
        info["runtimeSpec"] = std::move(spec);
      }
    }
  }
  Json namespaces = Json::object();
  for (const state::NamespacePin& pin : record.pins()) {
    namespaces[pin.type()] = pin.path();
    if (pin.type() == "net") {
      info["netnsPath"] = pin.path();
      info["netNamespaceClosed"] = record.state() != state::PodRecord::READY;
    }
  }
  info["namespaces"] = std::move(namespaces);
  if (!record.network_result().empty()) {
    Json attachments = network::DescribeAttachments(record.network_plan(), record.network_result());
    if (!attachments.empty()) {
      info["cniResult"] = attachments[0]["result"];
      info["networks"] = std::move(attachments);
    }
  }
  return base::DumpJson(info);
}

std::map<std::string, std::string> RuntimeService::DaemonInfo() const {
  Json handlers = Json::object();
  for (const Handler* handler : handlers_.All()) {
    const auto& runtime = handler->runtime.config();
    handlers[handler->name] = {
        {"runtimePath", runtime.path},
        {"runtimeRoot", runtime.root},
        {"runtimeType", "oci"},
        {"runtimeArguments", ListJson(runtime.extra_arguments)},
        {"sandbox", handler->traits.sandboxed},
        {"ociVersion", handler->traits.oci_version},
        {"allowedAnnotations", ListJson(handler->traits.allowed_annotations)},
        {"containerCreateTimeout", absl::ToInt64Seconds(handler->create_timeout)}};
  }
  const network::NetworkConfig& network = uses_.network.config();
  Json config = {{"root", config_.root},
                 {"runRoot", config_.run_root},
                 {"defaultRuntimeName", config_.default_handler},
                 {"runtimes", std::move(handlers)},
                 {"monitorPath", config_.monitor_path},
                 {"monitorCgroup", config_.monitor_cgroup}};
  Json cni = {{"pluginDirs", ListJson(network.plugin_dirs)},
              {"pluginConfDir", network.conf_dir},
              {"defaultNetwork", network.default_network}};
  Json debts = Json::array();
  for (const network::DetachDebts::Debt& debt : uses_.debts.List()) {
    debts.push_back({{"pod", debt.pod.str()},
                     {"since", absl::FormatTime(debt.since)},
         {"attempts", debt.attempts},
                     {"lastError", debt.last_error},
                     {"nextAttempt", absl::FormatTime(absl::Now() + (debt.next_attempt -
                                                                     base::SteadyTime::Now()))}});
  }
  return {{"config", base::DumpJson(config)},
          {"cniconfig", base::DumpJson(cni)},
          {"networkDebts", base::DumpJson(debts)},
          {"streamingServers", streams_.ToJson()}};
}

}  // namespace runtimeservice
