// Every verb of the CRI: that it answers, and what it says to requests that cannot work.
#include <functional>

#include "test/integration/fixture.h"

namespace test {
namespace {

using absl::StatusCode;

std::string UnknownId() { return std::string(64, 'a'); }

// One request and the code it must get.
struct BadRequest {
  std::string what;
  StatusCode code;
  std::function<absl::Status(const CriClient&)> send;
};

template <typename Request, typename Verb>
BadRequest Expect(StatusCode code, std::string what, Verb verb, Request request) {
  return {std::move(what), code,
          [verb, request](const CriClient& client) { return client.Call(verb, request).status(); }};
}

// A request whose only field that matters is an id.
template <typename Request>
Request WithPod(const std::string& id) {
  Request request;
  request.set_pod_sandbox_id(id);
  return request;
}
template <typename Request>
Request WithContainer(const std::string& id) {
  Request request;
  request.set_container_id(id);
  return request;
}
template <typename Request>
Request WithImage(const std::string& name) {
  Request request;
  request.mutable_image()->set_image(name);
  return request;
}

class RequestsTest : public IntegrationTest {
 protected:
  void ExpectCodes(const std::vector<BadRequest>& requests) {
    for (const BadRequest& request : requests) {
      const absl::Status status = request.send(client());
      EXPECT_EQ(status.code(), request.code) << request.what << ": " << status;
      EXPECT_TRUE(status.ok() || !status.message().empty()) << request.what;
    }
    EXPECT_OK(client().Call(&RuntimeStub::Version, cri::VersionRequest()));
  }

  // A pod request changed by `change`.
  cri::RunPodSandboxRequest Pod(
      const std::function<void(cri::RunPodSandboxRequest*)>& change) const {
    cri::RunPodSandboxRequest request = PodRequest("bad");
    change(&request);
    return request;
  }
};

TEST_F(RequestsTest, EmptyIdsAreInvalid) {
  const auto bad = StatusCode::kInvalidArgument;
  ExpectCodes({
      Expect(bad, "StopPodSandbox", &RuntimeStub::StopPodSandbox, cri::StopPodSandboxRequest()),
      Expect(bad, "RemovePodSandbox", &RuntimeStub::RemovePodSandbox,
             cri::RemovePodSandboxRequest()),
      Expect(bad, "PodSandboxStatus", &RuntimeStub::PodSandboxStatus,
             cri::PodSandboxStatusRequest()),
      Expect(bad, "CreateContainer", &RuntimeStub::CreateContainer, cri::CreateContainerRequest()),
      Expect(bad, "StartContainer", &RuntimeStub::StartContainer, cri::StartContainerRequest()),
      Expect(bad, "StopContainer", &RuntimeStub::StopContainer, cri::StopContainerRequest()),
      Expect(bad, "RemoveContainer", &RuntimeStub::RemoveContainer, cri::RemoveContainerRequest()),
      Expect(bad, "ContainerStatus", &RuntimeStub::ContainerStatus, cri::ContainerStatusRequest()),
      Expect(bad, "ReopenContainerLog", &RuntimeStub::ReopenContainerLog,
             cri::ReopenContainerLogRequest()),
      Expect(bad, "ExecSync", &RuntimeStub::ExecSync, cri::ExecSyncRequest()),
      Expect(bad, "Exec", &RuntimeStub::Exec, cri::ExecRequest()),
      Expect(bad, "Attach", &RuntimeStub::Attach, cri::AttachRequest()),
      Expect(bad, "PortForward", &RuntimeStub::PortForward, cri::PortForwardRequest()),
      Expect(bad, "PullImage without image", &ImageStub::PullImage, cri::PullImageRequest()),
      Expect(bad, "PullImage", &ImageStub::PullImage, WithImage<cri::PullImageRequest>("")),
      Expect(bad, "ImageStatus without image", &ImageStub::ImageStatus, cri::ImageStatusRequest()),
      Expect(bad, "ImageStatus", &ImageStub::ImageStatus, WithImage<cri::ImageStatusRequest>("")),
      Expect(bad, "RemoveImage without image", &ImageStub::RemoveImage, cri::RemoveImageRequest()),
      Expect(bad, "RemoveImage", &ImageStub::RemoveImage, WithImage<cri::RemoveImageRequest>("")),
  });
}

TEST_F(RequestsTest, UnknownIdsAreNotFoundOrAlreadyGone) {
  const auto absent = StatusCode::kNotFound;
  const std::string id = UnknownId();
  cri::ExecSyncRequest exec = WithContainer<cri::ExecSyncRequest>(id);
  exec.add_cmd("true");
  cri::CreateContainerRequest create = ContainerRequest(id, "c", "true");
  create.mutable_sandbox_config()->mutable_metadata()->set_name("x");
  ExpectCodes({
      Expect(absent, "PodSandboxStatus", &RuntimeStub::PodSandboxStatus,
             WithPod<cri::PodSandboxStatusRequest>(id)),
      Expect(absent, "CreateContainer", &RuntimeStub::CreateContainer, create),
      Expect(absent, "StartContainer", &RuntimeStub::StartContainer,
             WithContainer<cri::StartContainerRequest>(id)),
      Expect(absent, "ContainerStatus", &RuntimeStub::ContainerStatus,
             WithContainer<cri::ContainerStatusRequest>(id)),
      Expect(absent, "ReopenContainerLog", &RuntimeStub::ReopenContainerLog,
             WithContainer<cri::ReopenContainerLogRequest>(id)),
      Expect(absent, "ExecSync", &RuntimeStub::ExecSync, exec),
      Expect(StatusCode::kOk, "StopPodSandbox", &RuntimeStub::StopPodSandbox,
             WithPod<cri::StopPodSandboxRequest>(id)),
      Expect(StatusCode::kOk, "RemovePodSandbox", &RuntimeStub::RemovePodSandbox,
             WithPod<cri::RemovePodSandboxRequest>(id)),
      Expect(StatusCode::kOk, "StopContainer", &RuntimeStub::StopContainer,
             WithContainer<cri::StopContainerRequest>(id)),
      Expect(StatusCode::kOk, "RemoveContainer", &RuntimeStub::RemoveContainer,
             WithContainer<cri::RemoveContainerRequest>(id)),
      Expect(StatusCode::kOk, "a stop with an id of another form", &RuntimeStub::StopContainer,
             WithContainer<cri::StopContainerRequest>("Not/An../Id")),
  });
}

TEST_F(RequestsTest, PodsThatCannotWorkAreRefused) {
  using Request = cri::RunPodSandboxRequest;
  const auto bad = StatusCode::kInvalidArgument;
  const auto run = &RuntimeStub::RunPodSandbox;
  const auto options = [](Request* request) {
    return request->mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options();
  };
  ExpectCodes({
      Expect(bad, "no config", run, Request()),
      Expect(bad, "no metadata", run,
             Pod([](Request* r) { r->mutable_config()->clear_metadata(); })),
      Expect(bad, "no name", run,
             Pod([](Request* r) { r->mutable_config()->mutable_metadata()->clear_name(); })),
      Expect(bad, "no uid", run,
             Pod([](Request* r) { r->mutable_config()->mutable_metadata()->clear_uid(); })),
      Expect(bad, "no namespace", run,
             Pod([](Request* r) { r->mutable_config()->mutable_metadata()->clear_namespace_(); })),
      Expect(bad, "unknown network mode", run,
             Pod([&](Request* r) { options(r)->set_network(cri::CONTAINER); })),
      Expect(bad, "ipc of a target", run,
             Pod([&](Request* r) { options(r)->set_ipc(cri::TARGET); })),
      Expect(bad, "relative log directory", run,
             Pod([](Request* r) { r->mutable_config()->set_log_directory("logs"); })),
      Expect(bad, "cgroup of systemd's form", run, Pod([](Request* r) {
               r->mutable_config()->mutable_linux()->set_cgroup_parent("kubepods-pod1.slice");
             })),
      Expect(bad, "cgroup that climbs", run, Pod([](Request* r) {
               r->mutable_config()->mutable_linux()->set_cgroup_parent("/a/../../b");
             })),
      Expect(bad, "long hostname", run,
             Pod([](Request* r) { r->mutable_config()->set_hostname(std::string(65, 'h')); })),
  });
  const absl::Status unknown =
      client()
          .Call(run, Pod([](Request* r) { r->set_runtime_handler("no-such-handler"); }))
          .status();
  EXPECT_FALSE(unknown.ok());
  EXPECT_THAT(unknown.message(), testing::HasSubstr("no-such-handler"));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

TEST_F(RequestsTest, ContainersThatCannotWorkAreRefused) {
  using Request = cri::CreateContainerRequest;
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  const auto bad = StatusCode::kInvalidArgument;
  const auto create = &RuntimeStub::CreateContainer;
  const auto with = [&](const std::function<void(Request*)>& change) {
    Request request = ContainerRequest(pod, "bad", "true");
    change(&request);
    return request;
  };
  ExpectCodes({
      Expect(bad, "no config", create, with([](Request* r) { r->clear_config(); })),
      Expect(bad, "no metadata", create,
             with([](Request* r) { r->mutable_config()->clear_metadata(); })),
      Expect(bad, "no name", create,
             with([](Request* r) { r->mutable_config()->mutable_metadata()->clear_name(); })),
      Expect(bad, "no image", create, with([](Request* r) { r->mutable_config()->clear_image(); })),
      Expect(StatusCode::kNotFound, "absent image", create, with([](Request* r) {
               r->mutable_config()->mutable_image()->set_image("no.example/such:image");
             })),
      Expect(bad, "mount without a target", create,
             with([](Request* r) { r->mutable_config()->add_mounts()->set_host_path("/tmp"); })),
      Expect(bad, "group without user", create, with([](Request* r) {
               r->mutable_config()
                   ->mutable_linux()
                   ->mutable_security_context()
                   ->mutable_run_as_group()
                   ->set_value(1000);
             })),
      Expect(bad, "log outside the pod's directory", create,
             with([](Request* r) { r->mutable_config()->set_log_path("../../escape.log"); })),
  });
  ASSERT_OK(StopPod(pod));
  ExpectCodes(
      {Expect(StatusCode::kFailedPrecondition, "a stopped pod", create, with([](Request*) {}))});
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_EQ(containers.size(), 0u);
}

TEST_F(RequestsTest, ExecWithoutCommandIsInvalid) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "sleep 4321"));
  cri::ExecSyncRequest negative = WithContainer<cri::ExecSyncRequest>(container);
  negative.add_cmd("true");
  negative.set_timeout(-1);
  ExpectCodes(
      {Expect(StatusCode::kInvalidArgument, "no command", &RuntimeStub::ExecSync,
              WithContainer<cri::ExecSyncRequest>(container)),
       Expect(StatusCode::kInvalidArgument, "negative timeout", &RuntimeStub::ExecSync, negative)});
}

TEST_F(RequestsTest, MalformedReferencesAreInvalid) {
  std::vector<BadRequest> requests;
  for (const char* name :
       {"registry.example/UPPER/case", "a b", "name:", "name@sha256:12", "../escape", "/abs"}) {
    requests.push_back(Expect(StatusCode::kInvalidArgument, name, &ImageStub::PullImage,
                              WithImage<cri::PullImageRequest>(name)));
  }
  ExpectCodes(requests);
}

TEST_F(RequestsTest, AmbiguousPrefixIsRefused) {
  // Among 17 ids two share their first digit.
  std::map<char, int> first_digits;
  for (int i = 0; i < 17; ++i) {
    cri::RunPodSandboxRequest request = PodRequest("many" + std::to_string(i));
    request.mutable_config()->clear_log_directory();
    request.mutable_config()->clear_hostname();
    auto* options = request.mutable_config()
                        ->mutable_linux()
                        ->mutable_security_context()
                        ->mutable_namespace_options();
    options->set_network(cri::NODE);
    ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
    ++first_digits[pod[0]];
  }
  for (const auto& [digit, count] : first_digits) {
    const absl::Status status = PodStatus(std::string(1, digit)).status();
    EXPECT_EQ(status.ok(), count == 1) << status;
  }
}

// The verbs that come later answer UNIMPLEMENTED, which the kubelet takes as "not offered".
template <typename Request, typename Response>
absl::Status ReadAll(std::unique_ptr<grpc::ClientReader<Response>> (RuntimeStub::*verb)(
                         grpc::ClientContext*, const Request&),
                     const CriClient& client) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  auto reader = (client.runtime().*verb)(&context, Request());
  Response response;
  while (reader->Read(&response)) {
  }
  return FromGrpc(reader->Finish());
}

TEST_F(RequestsTest, VerbsThatAreNotOfferedSaySo) {
  const auto later = StatusCode::kUnimplemented;
  ExpectCodes({
      Expect(later, "ContainerStats", &RuntimeStub::ContainerStats, cri::ContainerStatsRequest()),
      Expect(later, "ListContainerStats", &RuntimeStub::ListContainerStats,
             cri::ListContainerStatsRequest()),
      Expect(later, "PodSandboxStats", &RuntimeStub::PodSandboxStats,
             cri::PodSandboxStatsRequest()),
      Expect(later, "ListPodSandboxStats", &RuntimeStub::ListPodSandboxStats,
             cri::ListPodSandboxStatsRequest()),
      Expect(later, "CheckpointContainer", &RuntimeStub::CheckpointContainer,
             cri::CheckpointContainerRequest()),
      Expect(later, "ListMetricDescriptors", &RuntimeStub::ListMetricDescriptors,
             cri::ListMetricDescriptorsRequest()),
      Expect(later, "ListPodSandboxMetrics", &RuntimeStub::ListPodSandboxMetrics,
             cri::ListPodSandboxMetricsRequest()),
      {"StreamPodSandboxes", later,
       [](const CriClient& c) { return ReadAll(&RuntimeStub::StreamPodSandboxes, c); }},
      {"StreamContainers", later,
       [](const CriClient& c) { return ReadAll(&RuntimeStub::StreamContainers, c); }},
      {"StreamContainerStats", later,
       [](const CriClient& c) { return ReadAll(&RuntimeStub::StreamContainerStats, c); }},
      {"StreamPodSandboxStats", later,
       [](const CriClient& c) { return ReadAll(&RuntimeStub::StreamPodSandboxStats, c); }},
      {"StreamPodSandboxMetrics", later,
       [](const CriClient& c) { return ReadAll(&RuntimeStub::StreamPodSandboxMetrics, c); }},
      {"GetContainerEvents", later,
       [](const CriClient& c) { return ReadAll(&RuntimeStub::GetContainerEvents, c); }},
      {"StreamImages", later,
       [](const CriClient& c) {
         grpc::ClientContext context;
         auto reader = c.image().StreamImages(&context, cri::StreamImagesRequest());
         cri::StreamImagesResponse response;
         while (reader->Read(&response)) {
         }
         return FromGrpc(reader->Finish());
       }},
  });
}

TEST_F(RequestsTest, VersionAndStatusAreComplete) {
  ASSERT_OK_AND_ASSIGN(const cri::VersionResponse version,
                       client().Call(&RuntimeStub::Version, cri::VersionRequest()));
  EXPECT_EQ(version.version(), "0.1.0");
  EXPECT_EQ(version.runtime_name(), "crisp");
  EXPECT_EQ(version.runtime_api_version(), "v1");
  EXPECT_THAT(version.runtime_version(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+.*"));

  ASSERT_OK_AND_ASSIGN(const cri::StatusResponse status,
                       client().Call(&RuntimeStub::Status, cri::StatusRequest()));
  std::map<std::string, bool> conditions;
  for (const cri::RuntimeCondition& condition : status.status().conditions()) {
    conditions[condition.type()] = condition.status();
  }
  EXPECT_TRUE(conditions["RuntimeReady"]);
  EXPECT_TRUE(conditions["NetworkReady"]);

  ASSERT_OK_AND_ASSIGN(const cri::RuntimeConfigResponse config,
                       client().Call(&RuntimeStub::RuntimeConfig, cri::RuntimeConfigRequest()));
  EXPECT_EQ(config.linux().cgroup_driver(), cri::CGROUPFS);
  EXPECT_OK(client().Call(&RuntimeStub::UpdateRuntimeConfig, cri::UpdateRuntimeConfigRequest()));
  EXPECT_OK(client().Call(&ImageStub::ListImages, cri::ListImagesRequest()));
}

}  // namespace
}  // namespace test
