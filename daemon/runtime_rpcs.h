// The verbs of runtime.v1.RuntimeService: which handler, which lane.
#pragma once

#include <grpcpp/impl/service_type.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "daemon/dispatch.h"
#include "daemon/lanes.h"
#include "daemon/services.h"
#include "daemon/verb_table.h"
#include "proto/api.grpc.pb.h"
#include "proto/cri.h"

namespace crispd {

// Entries of the verbose Status answer, by name: JSON each.
using StatusInfo = std::function<std::map<std::string, std::string>()>;

// A verb that `Verbs` has no handler for answers UNIMPLEMENTED by name; one that gains a handler
// needs no change here. A template so that tests can put a fake in the service's place.
// None of the arguments is owned; all outlive the server.
template <typename Verbs>
class RuntimeRpcs final : public cri::RuntimeService::CallbackService {
 public:
  // `status_info` makes further entries of a verbose Status answer; it must be quick.
  RuntimeRpcs(Verbs* service, Dispatcher* dispatcher, Lanes* lanes, StatusInfo status_info)
      : service_(service),
        dispatcher_(dispatcher),
        lanes_(lanes),
        status_info_(std::move(status_info)) {}

  CRISP_VERB(Version, nullptr)
  CRISP_VERB(RuntimeConfig, nullptr)
  CRISP_VERB(UpdateRuntimeConfig, &lanes_->runtime)

  CRISP_VERB(RunPodSandbox, &lanes_->sandbox)
  CRISP_VERB(StopPodSandbox, &lanes_->sandbox_end)
  CRISP_VERB(RemovePodSandbox, &lanes_->sandbox_end)
  CRISP_VERB(UpdatePodSandboxResources, &lanes_->runtime)
  CRISP_VERB(PodSandboxStatus, nullptr)
  CRISP_VERB(ListPodSandbox, nullptr)
  CRISP_VERB(PodSandboxStats, &lanes_->runtime)
  CRISP_VERB(ListPodSandboxStats, &lanes_->runtime)
  CRISP_VERB(ListPodSandboxMetrics, &lanes_->runtime)
  CRISP_VERB(ListMetricDescriptors, nullptr)

  CRISP_VERB(CreateContainer, &lanes_->runtime)
  CRISP_VERB(StartContainer, &lanes_->runtime)
  CRISP_VERB(RemoveContainer, &lanes_->runtime)
  CRISP_VERB(UpdateContainerResources, &lanes_->runtime)
  CRISP_VERB(ReopenContainerLog, &lanes_->runtime)
  CRISP_VERB(CheckpointContainer, &lanes_->runtime)
  CRISP_VERB(ContainerStatus, nullptr)
  CRISP_VERB(ListContainers, nullptr)
  CRISP_VERB(ContainerStats, &lanes_->runtime)
  CRISP_VERB(ListContainerStats, &lanes_->runtime)

  CRISP_VERB(ExecSync, &lanes_->exec)
  CRISP_VERB(Exec, &lanes_->stream)
  CRISP_VERB(Attach, &lanes_->stream)
  CRISP_VERB(PortForward, &lanes_->stream)

  CRISP_STREAM(StreamPodSandboxes, StreamPodSandboxesRequest, StreamPodSandboxesResponse)
  CRISP_STREAM(StreamContainers, StreamContainersRequest, StreamContainersResponse)
  CRISP_STREAM(StreamContainerStats, StreamContainerStatsRequest, StreamContainerStatsResponse)
  CRISP_STREAM(StreamPodSandboxStats, StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse)
  CRISP_STREAM(StreamPodSandboxMetrics, StreamPodSandboxMetricsRequest,
               StreamPodSandboxMetricsResponse)
  CRISP_STREAM(GetContainerEvents, GetEventsRequest, ContainerEventResponse)

  // Its grace period is spent without a thread.
  grpc::ServerUnaryReactor* StopContainer(grpc::CallbackServerContext* context,
                                          const cri::StopContainerRequest* request,
                                          cri::StopContainerResponse* response) override {
    return dispatcher_->RunAsync(context, Verb{"StopContainer", &lanes_->runtime}, request,
                                 response,
                                 [this](const base::Context& c, const auto& r, auto done) {
                                   service_->StopContainer(c, r, std::move(done));
                                 });
  }

  // A verbose answer also lists the operations in flight, without those that ask for the list.
  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const cri::StatusRequest* request,
                                   cri::StatusResponse* response) override {
    return dispatcher_->Run(
        context, Verb{"Status"}, request, response,
        [this](const base::Context& c, const cri::StatusRequest& r) {
          absl::StatusOr<cri::StatusResponse> answer = service_->Status(c, r);
          if (answer.ok() && r.verbose()) {
            std::vector<Operation> operations = dispatcher_->in_flight().List();
            std::erase_if(operations,
                          [](const Operation& operation) { return operation.method == "Status"; });
            (*answer->mutable_info())["operations"] = OperationsJson(operations, absl::Now());
            for (auto& [name, value] : status_info_()) {
              (*answer->mutable_info())[name] = std::move(value);
            }
          }
          return answer;
        });
  }

 private:
  Verbs* const service_;
  Dispatcher* const dispatcher_;
  Lanes* const lanes_;
  const StatusInfo status_info_;
};

// The runtime verbs of the real service.
std::unique_ptr<grpc::Service> MakeRuntimeRpcs(RuntimeVerbs* service, Dispatcher* dispatcher,
                                               Lanes* lanes, StatusInfo status_info);

}  // namespace crispd
