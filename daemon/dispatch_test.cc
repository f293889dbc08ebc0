#include "daemon/dispatch.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <future>
#include <thread>

#include "base/json.h"
#include "daemon/test_rpcs.h"

namespace crispd {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class DispatchTest : public RpcTest {
 protected:
  // Calls RunPodSandbox for a pod named "web".
  grpc::Status RunPod(grpc::ClientContext* context) {
    cri::RunPodSandboxRequest request;
    request.mutable_config()->mutable_metadata()->set_name("web");
    request.mutable_config()->mutable_metadata()->set_namespace_("shop");
    cri::RunPodSandboxResponse response;
    return runtime_->RunPodSandbox(context, request, &response);
  }
  grpc::Status RunPod() {
    grpc::ClientContext context;
    return RunPod(&context);
  }
  grpc::Status StopContainer() {
    grpc::ClientContext context;
    cri::StopContainerRequest request;
    request.set_container_id("c1");
    cri::StopContainerResponse response;
    return runtime_->StopContainer(&context, request, &response);
  }
};

// Makes a handler wait until the test lets it go.
class Gate {
 public:
  void Open() { promise_.set_value(); }
  void Wait() const { future_.wait(); }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_ = promise_.get_future().share();
};

TEST_F(DispatchTest, TheHandlersAnswerReachesTheCaller) {
  fake_runtime_.run_pod = [](const base::Context&, const cri::RunPodSandboxRequest& request) {
    cri::RunPodSandboxResponse response;
    response.set_pod_sandbox_id("id-of-" + request.config().metadata().name());
    return response;
  };
  cri::RunPodSandboxRequest request;
  request.mutable_config()->mutable_metadata()->set_name("web");
  cri::RunPodSandboxResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(runtime_->RunPodSandbox(&context, request, &response).ok());
  EXPECT_EQ(response.pod_sandbox_id(), "id-of-web");
}

TEST_F(DispatchTest, AHandlerRunsOnItsLane) {
  std::string thread;
  fake_runtime_.run_pod = [&](const auto&, const auto&) {
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof(name));
    thread = name;
    return cri::RunPodSandboxResponse();
  };
  ASSERT_TRUE(RunPod().ok());
  EXPECT_EQ(thread, "sandbox");
}

TEST_F(DispatchTest, TheHandlersErrorKeepsCodeAndMessage) {
  fake_runtime_.run_pod = [](const auto&, const auto&) {
    return absl::FailedPreconditionError("pod web: naïve 100 %");
  };
  const grpc::Status status = RunPod();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(), "pod web: naïve 100 %");
}

TEST_F(DispatchTest, AVeryLongErrorArrivesCutWithItsCode) {
  fake_runtime_.run_pod = [](const auto&, const auto&) {
    std::string text = "crun: ";
    while (text.size() < 20000) text += "ü\n";
    return absl::InternalError(text);
  };
  const grpc::Status status = RunPod();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_TRUE(status.error_message().starts_with("crun: ü\n"));
  EXPECT_TRUE(status.error_message().ends_with("\n…")) << status.error_message().substr(600);
}

TEST_F(DispatchTest, TheCallersDeadlineReachesTheHandler) {
  base::SteadyTime deadline = base::SteadyTime::Now();
  fake_runtime_.run_pod = [&](const base::Context& ctx, const auto&) {
    deadline = ctx.deadline();
    return cri::RunPodSandboxResponse();
  };
  ASSERT_TRUE(RunPod().ok());
  EXPECT_EQ(deadline, base::SteadyTime::InfiniteFuture());

  grpc::ClientContext context;
  const base::SteadyTime wanted = base::SteadyTime::Now() + absl::Minutes(4);
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(4)));
  ASSERT_TRUE(RunPod(&context).ok());
  EXPECT_LT(absl::AbsDuration(deadline - wanted), absl::Seconds(2));
}

// Waits for the cancellation as handlers do.
absl::Status AwaitCancel(const base::Context& ctx) {
  pollfd wait = {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0};
  poll(&wait, 1, 10000);
  return ctx.Check();
}

TEST_F(DispatchTest, ACallersCancelWakesTheHandler) {
  std::promise<absl::Status> seen;
  fake_runtime_.run_pod = [&](const base::Context& ctx, const auto&) -> absl::Status {
    absl::Status status = AwaitCancel(ctx);
    seen.set_value(status);
    return status;
  };
  grpc::ClientContext context;
  std::thread caller([&] { EXPECT_EQ(RunPod(&context).error_code(), grpc::CANCELLED); });
  EXPECT_TRUE(AwaitStage(Stage::kRunning));
  context.TryCancel();
  EXPECT_TRUE(absl::IsCancelled(seen.get_future().get()));
  caller.join();
}

TEST_F(DispatchTest, ADeadlineThatPassesWakesTheHandler) {
  std::promise<absl::Status> seen;
  fake_runtime_.run_pod = [&](const base::Context& ctx, const auto&) -> absl::Status {
    absl::Status status = AwaitCancel(ctx);
    seen.set_value(status);
    return status;
  };
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  EXPECT_EQ(RunPod(&context).error_code(), grpc::DEADLINE_EXCEEDED);
  EXPECT_FALSE(seen.get_future().get().ok());
}

TEST_F(DispatchTest, AFullLaneRefusesWithResourceExhausted) {
  Gate gate;
  fake_runtime_.run_pod = [&](const auto&, const auto&) {
    gate.Wait();
    return cri::RunPodSandboxResponse();
  };
  std::thread running([&] { EXPECT_TRUE(RunPod().ok()); });
  EXPECT_TRUE(AwaitStage(Stage::kRunning));
  std::thread queued([&] { EXPECT_TRUE(RunPod().ok()); });
  EXPECT_TRUE(AwaitStage(Stage::kQueued));

  const grpc::Status refused = RunPod();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("the sandbox lane is full"));
  EXPECT_EQ(lanes_.sandbox.load().rejected, 1u);
  gate.Open();
  running.join();
  queued.join();
}

TEST_F(DispatchTest, ARequestWhoseCallerLeftTheQueueIsNotRun) {
  Gate gate;
  std::atomic<int> runs = 0;
  fake_runtime_.run_pod = [&](const auto&, const auto&) {
    ++runs;
    gate.Wait();
    return cri::RunPodSandboxResponse();
  };
  std::thread running([&] { EXPECT_TRUE(RunPod().ok()); });
  EXPECT_TRUE(AwaitStage(Stage::kRunning));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  EXPECT_EQ(RunPod(&context).error_code(), grpc::DEADLINE_EXCEEDED);
  // The server counts from the request's arrival, so its deadline passes a little later.
  const absl::Time passed = absl::Now() + absl::Milliseconds(200);
  EXPECT_TRUE(Eventually([&] { return absl::Now() > passed; }));
  gate.Open();
  running.join();
  EXPECT_TRUE(Eventually([&] { return in_flight_.List().empty(); }));
  EXPECT_EQ(runs, 1);
}

TEST_F(DispatchTest, AStopHoldsNoThreadWhileItWaits) {
  FakeRuntime::StopDone done;
  fake_runtime_.stop = [&](FakeRuntime::StopDone d) { done = std::move(d); };
  std::thread caller([&] { EXPECT_TRUE(StopContainer().ok()); });
  ASSERT_TRUE(AwaitStage(Stage::kWaiting));
  EXPECT_TRUE(Eventually([&] { return lanes_.runtime.load().idle == 1; }));
  // From any thread, such as this one.
  done(cri::StopContainerResponse());
  caller.join();
  EXPECT_TRUE(in_flight_.List().empty());
}

TEST_F(DispatchTest, AStopIsAnsweredByTheFirstOfTwoAnswers) {
  fake_runtime_.stop = [](FakeRuntime::StopDone done) {
    done(absl::NotFoundError("first"));
    done(cri::StopContainerResponse());
  };
  EXPECT_EQ(StopContainer().error_message(), "first");
}

TEST_F(DispatchTest, AStopThatIsDroppedIsAnswered) {
  fake_runtime_.stop = [](const FakeRuntime::StopDone&) {};
  EXPECT_EQ(StopContainer().error_code(), grpc::StatusCode::INTERNAL);
}

TEST_F(DispatchTest, VerboseStatusListsTheOperationsInFlight) {
  FakeRuntime::StopDone done;
  fake_runtime_.stop = [&](FakeRuntime::StopDone d) { done = std::move(d); };
  std::thread caller([&] { EXPECT_TRUE(StopContainer().ok()); });
  ASSERT_TRUE(AwaitStage(Stage::kWaiting));
  cri::StatusRequest request;
  request.set_verbose(true);
  cri::StatusResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(runtime_->Status(&context, request, &response).ok());
  done(cri::StopContainerResponse());
  caller.join();

  const absl::StatusOr<base::Json> info = base::ParseJson(response.info().at("operations"));
  ASSERT_TRUE(info.ok()) << info.status();
  const base::Json& first = (*info)["operations"][0];
  EXPECT_EQ(first["method"], "StopContainer");
  EXPECT_EQ(first["subject"], "container=c1");
  EXPECT_EQ(first["stage"], "waiting");
  EXPECT_EQ(first["lane"], "runtime");
  EXPECT_EQ(response.info().at("pulls"), "[]");
}

TEST_F(DispatchTest, DebugLinesJoinWhatWasMadeWithItsDuration) {
  fake_runtime_.run_pod = [](const auto&, const auto&) {
    cri::RunPodSandboxResponse response;
    response.set_pod_sandbox_id("p1");
    return response;
  };
  base::SetLogLevel(base::LogLevel::kDebug);
  ::testing::internal::CaptureStderr();
  ASSERT_TRUE(RunPod().ok());
  grpc::ClientContext context;
  cri::StatusResponse response;
  ASSERT_TRUE(runtime_->Status(&context, cri::StatusRequest(), &response).ok());
  const std::string log = ::testing::internal::GetCapturedStderr();
  base::SetLogLevel(base::LogLevel::kInfo);
  EXPECT_THAT(log, HasSubstr("RunPodSandbox pod=shop/web request="));
  EXPECT_THAT(log, ContainsRegex("RunPodSandbox pod=shop/web made pod=p1: OK after [0-9.]+m?s "));
  // What only looks has no line for its arrival.
  EXPECT_THAT(log, ContainsRegex("Status: OK after [0-9.]+m?s "));
  EXPECT_THAT(log, Not(HasSubstr("Status request=")));
}

TEST(DurationTextTest, EveryDurationHasAUnit) {
  EXPECT_EQ(DurationText(absl::Microseconds(12)), "0ms");
  EXPECT_EQ(DurationText(absl::Microseconds(3900)), "3ms");
  EXPECT_EQ(DurationText(absl::Milliseconds(1200)), "1.2s");
}

TEST_F(DispatchTest, CredentialsAreNeverLogged) {
  base::SetLogLevel(base::LogLevel::kDebug);
  ::testing::internal::CaptureStderr();
  cri::PullImageRequest request;
  request.mutable_image()->set_image("example.org/app:1");
  request.mutable_auth()->set_password("hunter2");
  request.mutable_auth()->set_registry_token("token3");
  cri::PullImageResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(images_->PullImage(&context, request, &response).error_code(), grpc::UNAVAILABLE);
  const std::string log = ::testing::internal::GetCapturedStderr();
  base::SetLogLevel(base::LogLevel::kInfo);
  EXPECT_THAT(log, HasSubstr("image=example.org/app:1"));
  EXPECT_THAT(log, HasSubstr("the registry does not answer"));
  EXPECT_THAT(log, Not(HasSubstr("hunter2")));
  EXPECT_THAT(log, Not(HasSubstr("token3")));
}

TEST_F(DispatchTest, AnAnswerOfManyMegabytesArrives) {
  fake_runtime_.exec = [](const auto&, const auto&) {
    cri::ExecSyncResponse response;
    response.set_stdout(std::string(70 << 20, 'x'));
    return response;
  };
  cri::ExecSyncResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(runtime_->ExecSync(&context, cri::ExecSyncRequest(), &response).ok());
  EXPECT_EQ(response.stdout().size(), 70u << 20);
}

TEST_F(DispatchTest, ARequestBeyondTheLimitIsRefusedAndTheServerServesOn) {
  cri::ExecSyncRequest request;
  request.add_cmd(std::string(81 << 20, 'x'));
  cri::ExecSyncResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(runtime_->ExecSync(&context, request, &response).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(RunPod().ok());
}

// A unary or server-streaming call with an empty request; returns how it ended.
grpc::Status CallByName(const std::shared_ptr<grpc::Channel>& channel, const std::string& method) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  grpc::Slice empty;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  call->WriteLast(grpc::ByteBuffer(&empty, 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return status;
}

TEST_F(DispatchTest, EveryVerbWithoutAHandlerAnswersUnimplementedByName) {
  const char* const kUnbuilt[] = {
      "RuntimeService/Version",
      "RuntimeService/StopPodSandbox",
      "RuntimeService/RemovePodSandbox",
      "RuntimeService/PodSandboxStatus",
      "RuntimeService/ListPodSandbox",
      "RuntimeService/StreamPodSandboxes",
      "RuntimeService/CreateContainer",
      "RuntimeService/StartContainer",
      "RuntimeService/RemoveContainer",
      "RuntimeService/ListContainers",
      "RuntimeService/StreamContainers",
      "RuntimeService/ContainerStatus",
      "RuntimeService/UpdateContainerResources",
      "RuntimeService/ReopenContainerLog",
      "RuntimeService/Exec",
      "RuntimeService/Attach",
      "RuntimeService/PortForward",
      "RuntimeService/ContainerStats",
      "RuntimeService/ListContainerStats",
      "RuntimeService/StreamContainerStats",
      "RuntimeService/PodSandboxStats",
      "RuntimeService/ListPodSandboxStats",
      "RuntimeService/StreamPodSandboxStats",
      "RuntimeService/UpdateRuntimeConfig",
      "RuntimeService/CheckpointContainer",
      "RuntimeService/GetContainerEvents",
      "RuntimeService/ListMetricDescriptors",
      "RuntimeService/ListPodSandboxMetrics",
      "RuntimeService/StreamPodSandboxMetrics",
      "RuntimeService/RuntimeConfig",
      "RuntimeService/UpdatePodSandboxResources",
      "ImageService/ListImages",
      "ImageService/StreamImages",
      "ImageService/ImageStatus",
      "ImageService/RemoveImage",
      "ImageService/ImageFsInfo",
  };
  for (const std::string method : kUnbuilt) {
    const grpc::Status status = CallByName(channel_, "/runtime.v1." + method);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << method;
    EXPECT_EQ(status.error_message(), method.substr(method.find('/') + 1) + " is not built yet");
  }
}

TEST(ToGrpcTest, ShortMessagesStayWhole) {
  const std::string text(6000, 'x');
  EXPECT_EQ(ToGrpc(absl::UnknownError(text)).error_message(), text);
}

TEST(ToGrpcTest, LongMessagesAreCutBetweenCharacters) {
  // Each "ü" is two bytes and six when encoded: cuts would fall into one at some offset.
  for (const std::string prefix : {"", "a", "ab", "abc"}) {
    std::string text = prefix;
    while (text.size() < 10000) text += "ü";
    std::string cut = ToGrpc(absl::UnknownError(text)).error_message();
    ASSERT_TRUE(cut.ends_with("…"));
    cut.resize(cut.size() - std::string("…").size());
    EXPECT_EQ((cut.size() - prefix.size()) % 2, 0u);
    EXPECT_LT(cut.size() * 3, 6100u);
  }
}

TEST(SubjectTest, NamesTheObjectOfARequest) {
  cri::RunPodSandboxRequest run;
  run.mutable_config()->mutable_metadata()->set_namespace_("shop");
  run.mutable_config()->mutable_metadata()->set_name("web");
  EXPECT_EQ(Subject(run), "pod=shop/web");
  cri::CreateContainerRequest create;
  create.set_pod_sandbox_id("p1");
  create.mutable_config()->mutable_metadata()->set_name("app");
  EXPECT_EQ(Subject(create), "pod=p1 name=app");
  cri::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id("p1");
  EXPECT_EQ(Subject(stop), "pod=p1");
  cri::ImageStatusRequest image;
  image.mutable_image()->set_image("busybox");
  EXPECT_EQ(Subject(image), "image=busybox");
  EXPECT_EQ(Subject(cri::VersionRequest()), "");
}

}  // namespace
}  // namespace crispd
