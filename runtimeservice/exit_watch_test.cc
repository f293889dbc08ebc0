#include "runtimeservice/exit_watch.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <latch>
#include <thread>

#include "base/files.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

// The daemon's end of the stops of many containers; their monitors are sockets of this process.
class ExitWatchTest : public testing::Test {
 protected:
  void SetUp() override {
    rlimit files = {};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    char path[] = "/tmp/crisp-exits-XXXXXX";
    directory_ = mkdtemp(path);
    auto loop = EventLoop::Start();
    ASSERT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    exits_.emplace(
        *loop_, directory_,
        [this](const base::ContainerId& id, absl::StatusOr<ExitRecord>) {
          exits_->Ended(id);
          ++ended_;
        },
        [this](const base::ContainerId&) { ++inits_ended_; });
  }
  void TearDown() override {
    loop_.reset();
    ASSERT_TRUE(base::RemoveTree(directory_).ok());
  }

  // A watched container whose init is the process `init`; the monitor's end of its connection,
  // whose closing is the monitor's end.
  base::UniqueFd Watch(const base::ContainerId& id, pid_t init) {
    const std::string state = base::StrCat(directory_, "/", id.str());
    EXPECT_TRUE(base::MakeDirectories(state).ok());
    const base::UniqueFd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    base::StrCat(state, "/", conmon::kSocketFile).copy(address.sun_path, 107);
    EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listener.get(), 1), 0);
    base::UniqueFd monitor;
    std::thread peer([&] {
      monitor.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      SendState(monitor.get(), init);
    });
    auto connection = MonitorConnection::Connect(base::Context::Detached(absl::Seconds(20)), state);
    peer.join();
    EXPECT_TRUE(connection.ok()) << connection.status();
    if (connection.ok()) {
      EXPECT_TRUE(exits_->Watch(id, *std::move(connection)).ok());
    }
    return monitor;
  }

  static void SendState(int socket, pid_t init) {
    struct {
      conmon::Header header = {static_cast<uint32_t>(conmon::MessageType::kState), 0};
      conmon::State state = {};
    } packet;
    packet.state.version = conmon::kProtocolVersion;
    packet.state.pid = init;
    const base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, init, 0)));
    const int passed = pidfd.get();
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec vector = {&packet, sizeof(packet)};
    msghdr message = {};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &passed, sizeof(passed));
    EXPECT_EQ(sendmsg(socket, &message, 0), static_cast<ssize_t>(sizeof(packet)));
  }

  static size_t Threads() { return base::ListDirectory("/proc/self/task")->size(); }

  std::string directory_;
  std::unique_ptr<EventLoop> loop_;
  std::optional<ExitWatch> exits_;
  std::atomic<int> ended_ = 0;
  std::atomic<int> inits_ended_ = 0;
};

TEST_F(ExitWatchTest, AThousandStopsOfAMinuteTakeNoThreadAndDoNotHoldUpTheLoop) {
  constexpr int kStops = 1000;
  std::vector<base::ContainerId> ids;
  std::vector<base::UniqueFd> monitors;
  for (int i = 0; i < kStops; ++i) {
    ids.push_back(base::ContainerId::Random());
    monitors.push_back(Watch(ids.back(), getpid()));
  }
  const size_t threads = Threads();
  const base::SteadyTime begin = base::SteadyTime::Now();
  std::latch done(kStops);
  std::atomic<int> killed = 0;
  for (const base::ContainerId& id : ids) {
    exits_->Stop(
        base::Context::Detached(absl::Minutes(3)), id, begin + absl::Minutes(1), [&] { ++killed; },
        [&](const absl::Status& status) {
          EXPECT_TRUE(status.ok()) << status;
          done.count_down();
        });
  }
  EXPECT_EQ(Threads(), threads);
  std::latch round(1);
  loop_->Post([&] { round.count_down(); });
  round.wait();  // The loop still serves others while all of them wait.
  EXPECT_FALSE(done.try_wait());
  monitors.clear();
  done.wait();
  EXPECT_EQ(ended_, kStops);
  EXPECT_EQ(killed, 0) << "nobody waited for a grace that had not passed";
  EXPECT_LT(base::SteadyTime::Now() - begin, absl::Minutes(1));
}

TEST_F(ExitWatchTest, AShorterStopKillsSoonerAndBothEndTogether) {
  const base::ContainerId id = base::ContainerId::Random();
  base::UniqueFd monitor = Watch(id, getpid());
  std::latch killed(1);
  std::latch done(2);
  const auto stop = [&](absl::Duration grace, std::function<void()> kill) {
    exits_->Stop(base::Context::Detached(absl::Minutes(3)), id, base::SteadyTime::Now() + grace,
                 std::move(kill), [&](const absl::Status&) { done.count_down(); });
  };
  stop(absl::Minutes(1), [] { ADD_FAILURE() << "the longer grace is over"; });
  stop(absl::Milliseconds(10), [&] { killed.count_down(); });
  killed.wait();
  EXPECT_FALSE(done.try_wait());
  monitor.Reset();
  done.wait();
}

TEST_F(ExitWatchTest, WhatDoesNotDieEndsTheCallAtItsDeadlineAndTheNextCallWaitsAgain) {
  const base::ContainerId id = base::ContainerId::Random();
  base::UniqueFd monitor = Watch(id, getpid());
  std::atomic<int> kills = 0;
  const auto stop = [&](absl::Duration limit) {
    absl::Status end;
    std::latch done(1);
    std::thread wake([&] {
      if (limit > absl::Minutes(1)) {
        while (kills < 2) sched_yield();
        monitor.Reset();
      }
    });
    exits_->Stop(
        base::Context::Detached(limit), id, base::SteadyTime::Now(), [&] { ++kills; },
        [&](const absl::Status& status) {
          end = status;
          done.count_down();
        });
    done.wait();
    wake.join();
    return end;
  };
  EXPECT_TRUE(absl::IsDeadlineExceeded(stop(absl::Milliseconds(30))));
  EXPECT_GE(kills, 1);
  EXPECT_TRUE(stop(absl::Minutes(3)).ok());
}

TEST_F(ExitWatchTest, TheEndOfAnInitIsToldBeforeItsMonitorEnds) {
  base::Command sleep;
  sleep.argv = {"/bin/sleep", "4321"};
  auto init = base::Subprocess::Spawn(sleep);
  ASSERT_TRUE(init.ok());
  const base::ContainerId id = base::ContainerId::Random();
  base::UniqueFd monitor = Watch(id, init->pid());
  EXPECT_TRUE(exits_->Running(id));
  EXPECT_EQ(inits_ended_, 0);
  ASSERT_TRUE(exits_->Signal(id, SIGKILL).ok());
  while (inits_ended_ == 0) sched_yield();
  EXPECT_FALSE(exits_->Running(id));
  EXPECT_EQ(ended_, 0);
  monitor.Reset();
  while (ended_ == 0) sched_yield();
  EXPECT_EQ(inits_ended_, 1);
}

}  // namespace
}  // namespace runtimeservice
