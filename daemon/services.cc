#include "daemon/services.h"

#include <utility>

#include "daemon/dispatch.h"

namespace crispd {

absl::StatusOr<cri::VersionResponse> RuntimeVerbs::Version(const base::Context&,
                                                           const cri::VersionRequest&) {
  cri::VersionResponse response;
  response.set_version("0.1.0");  // The kubelet API's version, the same for ever.
  response.set_runtime_name("crisp");
  response.set_runtime_version(CRISP_VERSION);
  response.set_runtime_api_version("v1");
  return response;
}

absl::StatusOr<cri::StatusResponse> RuntimeVerbs::Status(const base::Context&,
                                                         const cri::StatusRequest&) {
  cri::StatusResponse response;
  for (const char* type : {"RuntimeReady", "NetworkReady"}) {
    cri::RuntimeCondition* condition = response.mutable_status()->add_conditions();
    condition->set_type(type);
    condition->set_reason("NotBuilt");
    condition->set_message("this daemon has no runtime service yet");
  }
  return response;
}

absl::StatusOr<cri::RuntimeConfigResponse> RuntimeVerbs::RuntimeConfig(
    const base::Context&, const cri::RuntimeConfigRequest&) {
  cri::RuntimeConfigResponse response;
  response.mutable_linux()->set_cgroup_driver(cri::CGROUPFS);
  return response;
}

absl::StatusOr<cri::UpdateRuntimeConfigResponse> RuntimeVerbs::UpdateRuntimeConfig(
    const base::Context&, const cri::UpdateRuntimeConfigRequest&) {
  return cri::UpdateRuntimeConfigResponse();
}

void RuntimeVerbs::StopContainer(const base::Context&, const cri::StopContainerRequest&,
                                 StopDone done) {
  done(UnbuiltError("StopContainer"));
}

absl::StatusOr<std::unique_ptr<Services>> BuildServices(const Config&, const base::Launcher&,
                                                        Lanes*) {
  auto services = std::make_unique<Services>();
  services->runtime = std::make_unique<RuntimeVerbs>();
  services->image = std::make_unique<ImageVerbs>();
  services->check_alive = [] { return absl::OkStatus(); };
  return services;
}

}  // namespace crispd
