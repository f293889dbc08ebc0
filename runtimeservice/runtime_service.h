// The runtime verbs of the CRI (runtime.v1.RuntimeService). Bodies: pods.cc, containers.cc,
// exec.cc, status.cc, recovery.cc.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "proto/cri.h"

namespace runtimeservice {

using base::Context;

// Every verb blocks its thread (a lane's) and is thread-safe; StopContainer alone may answer later.
class RuntimeService {
 public:
  absl::StatusOr<cri::VersionResponse> Version(const Context&, const cri::VersionRequest&);
  absl::StatusOr<cri::StatusResponse> Status(const Context&, const cri::StatusRequest&);
  absl::StatusOr<cri::RuntimeConfigResponse> RuntimeConfig(const Context&,
                                                           const cri::RuntimeConfigRequest&);
  absl::StatusOr<cri::UpdateRuntimeConfigResponse> UpdateRuntimeConfig(
      const Context&, const cri::UpdateRuntimeConfigRequest&);

  absl::StatusOr<cri::RunPodSandboxResponse> RunPodSandbox(const Context&,
                                                           const cri::RunPodSandboxRequest&);
  absl::StatusOr<cri::StopPodSandboxResponse> StopPodSandbox(const Context&,
                                                             const cri::StopPodSandboxRequest&);
  absl::StatusOr<cri::RemovePodSandboxResponse> RemovePodSandbox(
      const Context&, const cri::RemovePodSandboxRequest&);
  absl::StatusOr<cri::PodSandboxStatusResponse> PodSandboxStatus(
      const Context&, const cri::PodSandboxStatusRequest&);
  absl::StatusOr<cri::ListPodSandboxResponse> ListPodSandbox(const Context&,
                                                             const cri::ListPodSandboxRequest&);

  absl::StatusOr<cri::CreateContainerResponse> CreateContainer(const Context&,
                                                               const cri::CreateContainerRequest&);
  absl::StatusOr<cri::StartContainerResponse> StartContainer(const Context&,
                                                             const cri::StartContainerRequest&);
  using StopDone = std::function<void(absl::StatusOr<cri::StopContainerResponse>)>;
  // Sends the stop signal and returns; `done` is called once, from any thread, when it has ended.
  void StopContainer(const Context&, const cri::StopContainerRequest&, StopDone done);
  absl::StatusOr<cri::RemoveContainerResponse> RemoveContainer(const Context&,
                                                               const cri::RemoveContainerRequest&);
  absl::StatusOr<cri::ContainerStatusResponse> ContainerStatus(const Context&,
                                                               const cri::ContainerStatusRequest&);
  absl::StatusOr<cri::ListContainersResponse> ListContainers(const Context&,
                                                             const cri::ListContainersRequest&);
  absl::StatusOr<cri::ReopenContainerLogResponse> ReopenContainerLog(
      const Context&, const cri::ReopenContainerLogRequest&);
  absl::StatusOr<cri::ExecSyncResponse> ExecSync(const Context&, const cri::ExecSyncRequest&);
};

}  // namespace runtimeservice
