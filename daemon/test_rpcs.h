// A server with fakes behind the verbs, on a unix socket of its own. For tests only.
#pragma once

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/files.h"
#include "daemon/image_rpcs.h"
#include "daemon/runtime_rpcs.h"
#include "daemon/server.h"

namespace crispd {

// The verbs the tests need; each does what the test puts into its function.
struct FakeRuntime {
  std::function<absl::StatusOr<cri::RunPodSandboxResponse>(const base::Context&,
                                                           const cri::RunPodSandboxRequest&)>
      run_pod = [](const auto&, const auto&) { return cri::RunPodSandboxResponse(); };
  std::function<absl::StatusOr<cri::ExecSyncResponse>(const base::Context&,
                                                      const cri::ExecSyncRequest&)>
      exec = [](const auto&, const auto&) { return cri::ExecSyncResponse(); };
  using StopDone = std::function<void(absl::StatusOr<cri::StopContainerResponse>)>;
  std::function<void(StopDone)> stop = [](StopDone done) { done(cri::StopContainerResponse()); };

  absl::StatusOr<cri::RunPodSandboxResponse> RunPodSandbox(
      const base::Context& ctx, const cri::RunPodSandboxRequest& request) {
    return run_pod(ctx, request);
  }
  absl::StatusOr<cri::ExecSyncResponse> ExecSync(const base::Context& ctx,
                                                 const cri::ExecSyncRequest& request) {
    return exec(ctx, request);
  }
  absl::StatusOr<cri::StatusResponse> Status(const base::Context&, const cri::StatusRequest&) {
    return cri::StatusResponse();
  }
  void StopContainer(const base::Context&, const cri::StopContainerRequest&, StopDone done) {
    stop(std::move(done));
  }
};

struct FakeImages {
  absl::StatusOr<cri::PullImageResponse> PullImage(const base::Context&,
                                                   const cri::PullImageRequest&) {
    return absl::UnavailableError("the registry does not answer");
  }
};

class RpcTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/crisp-rpc-XXXXXX";
    directory_ = mkdtemp(path);
    socket_ = directory_ + "/crisp.sock";
    Start();
  }
  void TearDown() override {
    server_.reset();
    ASSERT_TRUE(base::RemoveTree(directory_).ok());
  }

  void Start() {
    absl::StatusOr<std::unique_ptr<Server>> server =
        Server::Start({.socket = socket_}, {&runtime_rpcs_, &image_rpcs_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ =
        grpc::CreateCustomChannel("unix:" + socket_, grpc::InsecureChannelCredentials(), arguments);
    runtime_ = cri::RuntimeService::NewStub(channel_);
    images_ = cri::ImageService::NewStub(channel_);
  }

  // Waits until `condition` holds; false when it does not within ten seconds.
  static bool Eventually(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }
  // Until a request is in `stage`.
  bool AwaitStage(Stage stage) {
    return Eventually([&] {
      for (const Operation& operation : in_flight_.List()) {
        if (operation.stage == stage) return true;
      }
      return false;
    });
  }

  std::string directory_;
  std::string socket_;
  FakeRuntime fake_runtime_;
  FakeImages fake_images_;
  // One thread and one place to wait, so that few requests fill a lane.
  Lanes lanes_{.sandbox{"sandbox", 1, 1}, .runtime{"runtime", 1, 1}};
  InFlight in_flight_;
  Dispatcher dispatcher_{&in_flight_};
  RuntimeRpcs<FakeRuntime> runtime_rpcs_{
      &fake_runtime_, &dispatcher_, &lanes_,
      [] { return std::map<std::string, std::string>{{"pulls", "[]"}}; }};
  ImageRpcs<FakeImages> image_rpcs_{&fake_images_, &dispatcher_, &lanes_};
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<cri::RuntimeService::Stub> runtime_;
  std::unique_ptr<cri::ImageService::Stub> images_;
};

}  // namespace crispd
