#include "daemon/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/unique_fd.h"
#include "daemon/instance_lock.h"
#include "daemon/liveness.h"
#include "daemon/test_rpcs.h"

namespace crispd {
namespace {

using ::testing::HasSubstr;

class ServerTest : public RpcTest {
 protected:
  // Status has a handler in the fake.
  grpc::Status Ask() {
    grpc::ClientContext context;
    cri::StatusResponse response;
    return runtime_->Status(&context, cri::StatusRequest(), &response);
  }
};

TEST_F(ServerTest, TheSocketIsForOwnerAndGroup) {
  struct stat status;
  ASSERT_EQ(lstat(socket_.c_str(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(status.st_mode & 0777, 0660u);
}

TEST_F(ServerTest, MissingParentsOfTheSocketAreMade) {
  server_.reset();
  socket_ = directory_ + "/a/b/crisp.sock";
  Start();
  EXPECT_TRUE(Ask().ok());
}

TEST_F(ServerTest, ASocketOfADeadDaemonIsReplaced) {
  server_.reset();
  const base::UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  socket_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  unlink(socket_.c_str());
  ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  Start();
  EXPECT_TRUE(Ask().ok());
}

TEST_F(ServerTest, ASocketThatAnswersIsLeftAlone) {
  const absl::Status second = Server::Start({.socket = socket_}, {}).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kAlreadyExists) << second;
  EXPECT_TRUE(Ask().ok());
}

TEST_F(ServerTest, AFileThatIsNoSocketIsLeftAlone) {
  const std::string path = directory_ + "/file";
  ASSERT_TRUE(base::ReplaceFile(path, "precious", 0600, base::Durability::kVolatile).ok());
  EXPECT_EQ(Server::Start({.socket = path}, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*base::ReadFile(path), "precious");
}

TEST_F(ServerTest, APathTooLongForASocketIsRefused) {
  EXPECT_EQ(Server::Start({.socket = "/tmp/" + std::string(103, 'x')}, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ServerTest, DrainLetsARunningRequestEnd) {
  std::promise<void> gate;
  std::shared_future<void> opened = gate.get_future().share();
  fake_runtime_.run_pod = [opened](const auto&, const auto&) {
    opened.wait();
    return cri::RunPodSandboxResponse();
  };
  grpc::Status ended;
  std::thread caller([&] {
    grpc::ClientContext context;
    cri::RunPodSandboxResponse response;
    ended = runtime_->RunPodSandbox(&context, cri::RunPodSandboxRequest(), &response);
  });
  EXPECT_TRUE(AwaitStage(Stage::kRunning));
  bool drained = false;
  std::thread drain([&] { drained = server_->Drain(absl::Seconds(30)); });
  // The listener closes first: nobody new gets in.
  EXPECT_TRUE(Eventually([&] { return !base::Exists(socket_); }));
  gate.set_value();
  drain.join();
  caller.join();
  EXPECT_TRUE(drained);
  EXPECT_TRUE(ended.ok()) << ended.error_message();
}

TEST_F(ServerTest, DrainCancelsWhatDoesNotEndInTime) {
  std::atomic<bool> cancelled = false;
  fake_runtime_.run_pod = [&](const base::Context& ctx, const auto&) -> absl::Status {
    EXPECT_TRUE(Eventually([&] { return !ctx.Check().ok(); }));
    cancelled = true;
    return ctx.Check();
  };
  std::thread caller([&] {
    grpc::ClientContext context;
    cri::RunPodSandboxResponse response;
    EXPECT_FALSE(runtime_->RunPodSandbox(&context, cri::RunPodSandboxRequest(), &response).ok());
  });
  EXPECT_TRUE(AwaitStage(Stage::kRunning));
  EXPECT_TRUE(server_->Drain(absl::Milliseconds(50)));
  EXPECT_TRUE(cancelled);
  caller.join();
}

class InstanceLockTest : public RpcTest {};

TEST_F(InstanceLockTest, ASecondHolderIsToldThePidOfTheFirst) {
  const absl::StatusOr<InstanceLock> first = InstanceLock::Acquire(directory_ + "/root");
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = InstanceLock::Acquire(directory_ + "/root").status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.message()), HasSubstr("pid " + std::to_string(getpid())));
  EXPECT_TRUE(InstanceLock::Acquire(directory_ + "/other").ok());
}

TEST_F(InstanceLockTest, TheLockEndsWithItsHolder) {
  {
    ASSERT_TRUE(InstanceLock::Acquire(directory_).ok());
  }
  EXPECT_TRUE(InstanceLock::Acquire(directory_).ok());
}

TEST(LivenessTest, ABusyLaneIsAlive) {
  std::promise<void> gate;
  std::shared_future<void> opened = gate.get_future().share();
  std::promise<void> running;
  Lanes lanes{.sandbox{"sandbox", 1, 8}};  // Ends its task before the above go.
  ASSERT_TRUE(lanes.sandbox
                  .Post([&] {
                    running.set_value();
                    opened.wait();
                  })
                  .ok());
  running.get_future().wait();
  ASSERT_TRUE(lanes.sandbox.Post([] {}).ok());
  Liveness liveness(&lanes, nullptr);
  for (int check = 0; check < 3; ++check) {
    EXPECT_TRUE(liveness.Check().ok());
  }
  gate.set_value();
}

TEST(LivenessTest, AServiceThatStandsStillIsNotAlive) {
  Lanes lanes;
  Liveness liveness(&lanes, [] { return absl::InternalError("the event loop stands still"); });
  EXPECT_EQ(liveness.Check().message(), "the event loop stands still");
}

}  // namespace
}  // namespace crispd
