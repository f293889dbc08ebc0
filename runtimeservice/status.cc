// Version, Status, RuntimeConfig, UpdateRuntimeConfig, and the handlers they speak of.
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/user_namespace.h"

namespace runtimeservice {

absl::StatusOr<const Handler*> RuntimeService::FindHandler(const std::string& name) {
  return handlers_.Find(name.empty() ? config_.default_handler : name);
}

Runtime RuntimeService::RuntimeOf(const state::ContainerRecord& record) const {
  return Runtime(
      {.path = record.runtime_path(),
       .root = record.runtime_root(),
       .systemd_cgroup = record.cgroup_driver() == state::SYSTEMD,
       .extra_arguments = {record.runtime_arguments().begin(), record.runtime_arguments().end()}},
      uses_.launcher);
}

absl::Status RuntimeService::HandlersReady() const {
  std::vector<std::string> missing;
  for (const Handler* handler : handlers_.All()) {
    const std::string& program = handler->runtime.config().path;
    if (access(program.c_str(), X_OK) != 0) {
      missing.push_back(base::StrCat("runtime handler \"", handler->name, "\": ",
                                     base::ToStd(base::ErrnoStatus(errno, program).message())));
    }
  }
  return missing.empty() ? absl::OkStatus()
                         : absl::FailedPreconditionError(absl::StrJoin(missing, "; "));
}

absl::Status RuntimeService::CheckUserNamespaceSupport(const cri::PodSandboxConfig& config,
                                                       const Handler& handler) const {
  if (!PodIdMap(config).has_value()) {
    return absl::OkStatus();
  }
  constexpr char kField[] = "config.linux.security_context.namespace_options.userns_options";
  if (!user_namespaces_.ok()) {
    return base::Annotate(user_namespaces_, kField);
  }
  return handler.traits.user_namespaces
             ? absl::OkStatus()
             : absl::FailedPreconditionError(base::StrCat(kField, ": the runtime handler ",
                                                          handler.name, " has no user namespaces"));
}

absl::Status RuntimeService::ProgramsReady() const {
  std::vector<std::string> missing;
  for (const std::string& program : {config_.monitor_path, config_.init_path, config_.pull_path,
                                     config_.handlers.at(config_.default_handler).runtime.path}) {
    if (access(program.c_str(), X_OK) != 0) {
      missing.emplace_back(base::ToStd(base::ErrnoStatus(errno, program).message()));
    }
  }
  return missing.empty() ? absl::OkStatus()
                         : absl::FailedPreconditionError(absl::StrJoin(missing, "; "));
}

absl::StatusOr<cri::VersionResponse> RuntimeService::Version(const Context&,
                                                             const cri::VersionRequest&) {
  cri::VersionResponse response;
  response.set_version("0.1.0");
  response.set_runtime_name("crisp");
  response.set_runtime_version(config_.version);
  response.set_runtime_api_version("v1");
  return response;
}

absl::StatusOr<cri::StatusResponse> RuntimeService::Status(const Context&,
                                                           const cri::StatusRequest& request) {
  cri::StatusResponse response;
  cri::RuntimeCondition* runtime = response.mutable_status()->add_conditions();
  runtime->set_type("RuntimeReady");
  const absl::Status programs = ProgramsReady();
  runtime->set_status(programs.ok());
  if (!programs.ok()) {
    runtime->set_reason("ProgramMissing");
    runtime->set_message(std::string(programs.message()));
  }
  cri::RuntimeCondition* network = response.mutable_status()->add_conditions();
  network->set_type("NetworkReady");
  std::string complaint;
  const absl::Status ready = uses_.network.Ready(&complaint);
  network->set_status(ready.ok());
  network->set_message(complaint);
  if (ready.ok() && !network_gc_done_) {
    RequestNetworkGc();
  }
  if (!ready.ok()) {
    network->set_reason("NetworkPluginNotReady");
    network->set_message(std::string(ready.message()));
  }
  if (apparmor_.enabled()) {
    // For people alone: containers that need the profile are refused one by one.
    cri::RuntimeCondition* apparmor = response.mutable_status()->add_conditions();
    apparmor->set_type("AppArmorReady");
    const absl::Status state = apparmor_.DefaultState();
    apparmor->set_status(state.ok());
    if (!state.ok()) {
      apparmor->set_reason("DefaultProfileMissing");
      apparmor->set_message(std::string(state.message()));
    }
  }
  // Only when one is missing: no caller waits for this condition, people read it.
  if (const absl::Status handlers = HandlersReady(); !handlers.ok()) {
    cri::RuntimeCondition* condition = response.mutable_status()->add_conditions();
    condition->set_type("RuntimeHandlersReady");
    condition->set_status(false);
    condition->set_reason("ProgramMissing");
    condition->set_message(std::string(handlers.message()));
  }
  if (access(config_.streams.program.c_str(), X_OK) != 0) {
    cri::RuntimeCondition* condition = response.mutable_status()->add_conditions();
    condition->set_type("StreamingReady");
    condition->set_status(false);
    condition->set_reason("ProgramMissing");
    condition->set_message(
        std::string(base::ErrnoStatus(errno, config_.streams.program).message()));
  }
  const auto add_handler = [&](const std::string& name, const HandlerTraits& traits) {
    cri::RuntimeHandler* handler = response.add_runtime_handlers();
    handler->set_name(name);
    handler->mutable_features()->set_recursive_read_only_mounts(traits.recursive_read_only);
    handler->mutable_features()->set_user_namespaces(traits.user_namespaces &&
                                                     user_namespaces_.ok());
  };
  for (const Handler* handler : handlers_.All()) {
    add_handler(handler->name, handler->traits);
  }
  add_handler("", handlers_.at(config_.default_handler).traits);
  response.mutable_features()->set_supplemental_groups_policy(true);
  response.mutable_features()->set_user_namespaces_host_network(user_namespaces_.ok());
  if (request.verbose()) {
    const std::map<std::string, std::string> info = DaemonInfo();
    response.mutable_info()->insert(info.begin(), info.end());
  }
  return response;
}

absl::StatusOr<cri::RuntimeConfigResponse> RuntimeService::RuntimeConfig(
    const Context&, const cri::RuntimeConfigRequest&) {
  cri::RuntimeConfigResponse response;
  response.mutable_linux()->set_cgroup_driver(
      config_.cgroup_driver == state::SYSTEMD ? cri::SYSTEMD : cri::CGROUPFS);
  return response;
}

absl::StatusOr<cri::UpdateRuntimeConfigResponse> RuntimeService::UpdateRuntimeConfig(
    const Context&, const cri::UpdateRuntimeConfigRequest& request) {
  RETURN_IF_ERROR(pod_ranges_.Set(request.runtime_config().network_config().pod_cidr()));
  return cri::UpdateRuntimeConfigResponse();
}

}  // namespace runtimeservice
