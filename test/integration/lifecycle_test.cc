// The end of containers: signals, graces, stops that overlap, and what others notice of many stops.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <atomic>
#include <latch>

#include "base/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using base::SteadyTime;
using testing::HasSubstr;
using testing::IsEmpty;

class LifecycleTest : public IntegrationTest {
 protected:
  // A container that ends with the number of the signal it gets.
  absl::StatusOr<std::string> Listener(const std::string& pod, const std::string& name,
                                       cri::Signal signal) const {
    cri::CreateContainerRequest request =
        ContainerRequest(pod, name,
                         "for s in 2 15 34 37; do trap \"exit $s\" $s; done; echo ready;"
                         " while :; do sleep 0.05; done");
    request.mutable_config()->set_stop_signal(signal);
    ASSIGN_OR_RETURN(std::string id, Create(request));
    RETURN_IF_ERROR(Start(id));
    return id;
  }

  cri::RunPodSandboxRequest SharedPidPod(std::string_view name) const {
    cri::RunPodSandboxRequest request = PodRequest(name);
    request.mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options()
        ->set_pid(cri::POD);
    return request;
  }

  template <typename Work>
  static absl::Duration TimeOf(const Work& work) {
    const SteadyTime begin = SteadyTime::Now();
    work();
    return SteadyTime::Now() - begin;
  }
};

TEST_F(LifecycleTest, EveryKindOfStopSignalArrives) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("signals"));
  const std::pair<cri::Signal, int> signals[] = {
      {cri::SIGNAL_RUNTIME_DEFAULT, 15},
      {static_cast<cri::Signal>(10), 2},   // SIGINT
      {static_cast<cri::Signal>(35), 34},  // SIGRTMIN
      {static_cast<cri::Signal>(38), 37},  // SIGRTMIN+3, systemd's
  };
  int number = 0;
  for (const auto& [signal, expected] : signals) {
    const std::string name = base::StrCat("c", ++number);
    ASSERT_OK_AND_ASSIGN(const std::string id, Listener(pod, name, signal));
    ASSERT_TRUE(LogGets("signals", name + ".log", "ready"));
    ASSERT_OK(StopContainer(id, 60));
    ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(id));
    EXPECT_EQ(status.exit_code(), expected) << signal;
  }
}

TEST_F(LifecycleTest, AStopSignalThatIsNoneIsInvalidAndLeavesNothing) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("bad"));
  cri::CreateContainerRequest request = ContainerRequest(pod, "c", "exec sleep 4321");
  request.mutable_config()->set_stop_signal(static_cast<cri::Signal>(99));
  const absl::Status refused = Create(request).status();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("stop_signal"));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> containers, Containers());
  EXPECT_EQ(containers.size(), 0u);
  EXPECT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(LifecycleTest, AnOrphanThatHoldsTheOutputDoesNotHoldUpTheEnd) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(SharedPidPod("orphans")));
  const std::string polite = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
  ASSERT_OK_AND_ASSIGN(const std::string plain, RunContainer(pod, "plain", polite));
  ASSERT_OK_AND_ASSIGN(const std::string orphan,
                       RunContainer(pod, "orphan", "sleep 4321 & " + polite));
  ASSERT_TRUE(LogGets("orphans", "plain.log", "ready"));
  ASSERT_TRUE(LogGets("orphans", "orphan.log", "ready"));
  const absl::Duration without = TimeOf([&] { EXPECT_OK(StopContainer(plain, 60)); });
  const absl::Duration with = TimeOf([&] { EXPECT_OK(StopContainer(orphan, 60)); });
  // A monitor waits 2 s for output that somebody holds open.
  EXPECT_LT(with - without, absl::Milliseconds(1500));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(orphan));
  EXPECT_EQ(status.exit_code(), 0);
  EXPECT_TRUE(Eventually([&] { return Processes("orphans").size() == 1; })) << "crisp-init";
}

TEST_F(LifecycleTest, TheLogIsCompleteOnceTheContainerIsSeenToHaveExited) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("logs"));
  for (int round = 0; round < 5; ++round) {
    const std::string name = base::StrCat("c", round);
    ASSERT_OK_AND_ASSIGN(const std::string id,
                         RunContainer(pod, name, "seq 1 20000; echo -n the-end; exit 9"));
    ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, WaitForExit(id));
    const std::string log = ReadLog("logs", name + ".log");
    EXPECT_EQ(status.exit_code(), 9);
    EXPECT_THAT(log, HasSubstr(" F 20000\n"));
    EXPECT_TRUE(log.ends_with("the-end\n")) << log.substr(log.size() - 100);
  }
}

// Stops that wait for their grace, several of each container at once.
class PendingStops {
 public:
  PendingStops(const CriClient& client, const std::vector<std::string>& containers, int each)
      : left_(static_cast<std::ptrdiff_t>(containers.size()) * each) {
    calls_.reserve(containers.size() * static_cast<size_t>(each));
    for (int i = 0; i < each; ++i) {
      for (const std::string& id : containers) {
        Call& call = *calls_.emplace_back(std::make_unique<Call>());
        call.request.set_container_id(id);
        call.request.set_timeout(60);
        client.runtime().async()->StopContainer(&call.context, &call.request, &call.response,
                                                [this, &call](const grpc::Status& status) {
                                                  failed_ += status.ok() ? 0 : 1;
                                                  call.done = true;
                                                  left_.count_down();
                                                });
      }
    }
  }
  ~PendingStops() { left_.wait(); }

  size_t Waiting() const {
    return static_cast<size_t>(
        std::count_if(calls_.begin(), calls_.end(), [](const auto& call) { return !call->done; }));
  }
  int Wait() {
    left_.wait();
    return failed_;
  }

 private:
  struct Call {
    grpc::ClientContext context;
    cri::StopContainerRequest request;
    cri::StopContainerResponse response;
    std::atomic<bool> done = false;
  };
  std::vector<std::unique_ptr<Call>> calls_;
  std::atomic<int> failed_ = 0;
  std::latch left_;
};

TEST_F(LifecycleTest, AThousandPendingStopsDoNotSlowExecsNorPods) {
  const unsigned containers = EnvironmentNumber("CRISP_STOP_CONTAINERS", 50);
  constexpr unsigned kStops = 1000;
  ASSERT_OK(Pull(kBusybox));
  std::vector<std::string> ids;
  std::string pod;
  for (unsigned i = 0; i < containers; ++i) {
    if (i % 25 == 0) {
      ASSERT_OK_AND_ASSIGN(pod, RunPod(base::StrCat("many", i / 25)));
    }
    ASSERT_OK_AND_ASSIGN(ids.emplace_back(),
                         RunContainer(pod, base::StrCat("c", i), "trap '' TERM; sleep 4321"));
  }
  ASSERT_OK_AND_ASSIGN(const std::string own, RunPod("own"));
  ASSERT_OK_AND_ASSIGN(const std::string busy, RunContainer(own, "busy", "exec sleep 4321"));
  const auto threads = [&] {
    return base::ListDirectory(base::StrCat("/proc/", daemon().pid(), "/task"))->size();
  };
  int number = 0;
  const auto exec = [&] { EXPECT_OK(Exec(busy, {"true"})); };
  const auto sandbox = [&] {
    const auto made = RunPod(base::StrCat("probe", ++number));
    EXPECT_OK(made);
    EXPECT_OK(RemovePod(made.value_or("")));
  };
  // The best of several: what other work of the machine adds does not count.
  const auto best = [&](const auto& work) {
    std::vector<absl::Duration> times;
    for (int i = 0; i < 9; ++i) times.push_back(TimeOf(work));
    return *std::min_element(times.begin(), times.end());
  };
  sandbox();
  const absl::Duration exec_before = best(exec);
  const absl::Duration sandbox_before = best(sandbox);

  PendingStops stops(client(), ids, static_cast<int>((kStops + containers - 1) / containers));
  // The next request is served behind them.
  EXPECT_OK(Status(busy));
  const size_t threads_during = threads();
  const absl::Duration exec_during = best(exec);
  const absl::Duration sandbox_during = best(sandbox);
  EXPECT_GE(stops.Waiting(), kStops) << "they must wait while the others are measured";
  std::printf(
      "with %zu stops pending: exec %.1f -> %.1f ms, sandbox %.1f -> %.1f ms, %zu threads\n",
      stops.Waiting(), absl::ToDoubleMilliseconds(exec_before),
      absl::ToDoubleMilliseconds(exec_during), absl::ToDoubleMilliseconds(sandbox_before),
      absl::ToDoubleMilliseconds(sandbox_during), threads_during);
  EXPECT_LT(exec_during, 2 * exec_before);
  EXPECT_LT(sandbox_during, 2 * sandbox_before);
  EXPECT_LT(threads_during, 150u);

  // One shorter stop of each ends all that wait for it.
  for (const std::string& id : ids) EXPECT_OK(StopContainer(id, 0));
  EXPECT_EQ(stops.Wait(), 0);
}

// A file system on which writes hang while it is frozen; thawed and unmounted by the end.
class FrozenDisk {
 public:
  absl::Status Make(const std::string& directory) {
    directory_ = directory;
    path_ = directory + "/frozen";
    const std::string image = directory + "/frozen.img";
    RETURN_IF_ERROR(base::MakeDirectories(path_));
    RETURN_IF_ERROR(RunProgram({"truncate", "-s", "16M", image}).status());
    RETURN_IF_ERROR(RunProgram({"mkfs.ext4", "-q", image}).status());
    RETURN_IF_ERROR(RunProgram({"mount", "-o", "loop", image, path_}).status());
    ASSIGN_OR_RETURN(fd_, base::Open(path_, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return absl::OkStatus();
  }
  ~FrozenDisk() {
    if (fd_.valid()) {
      Thaw();
      fd_.Reset();
      EXPECT_TRUE(Eventually([&] { return RunProgram({"umount", path_}).ok(); }));
    }
    EXPECT_OK(base::RemoveTree(directory_));
  }
  bool Freeze() { return ioctl(fd_.get(), FIFREEZE, 0) == 0; }
  void Thaw() { ioctl(fd_.get(), FITHAW, 0); }
  const std::string& path() const { return path_; }

 private:
  std::string directory_;
  std::string path_;
  base::UniqueFd fd_;
};

TEST_F(LifecycleTest, AProcessThatSleepsInTheKernelHoldsUpItsOwnCallOnly) {
  ASSERT_OK(Pull(kBusybox));
  FrozenDisk disk;
  if (const absl::Status made = disk.Make("/tmp/" + environment().name()); !made.ok()) {
    GTEST_SKIP() << "SKIP: a loop device with ext4: " << made;
  }
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("asleep"));
  cri::CreateContainerRequest request =
      ContainerRequest(pod, "c",
                       "echo ready; while [ ! -e /go ]; do sleep 0.05; done;"
                       " echo writing; echo x > /disk/file; sleep 4321");
  cri::Mount* mount = request.mutable_config()->add_mounts();
  mount->set_host_path(disk.path());
  mount->set_container_path("/disk");
  ASSERT_OK_AND_ASSIGN(const std::string id, Create(request));
  ASSERT_OK(Start(id));
  ASSERT_OK_AND_ASSIGN(const std::string other, RunContainer(pod, "other", "exec sleep 4321"));
  ASSERT_TRUE(disk.Freeze());
  ASSERT_OK(Exec(id, {"touch", "/go"}));
  const auto asleep = [&] {
    for (const pid_t pid : Processes("asleep")) {
      const auto stat = base::ReadFile(base::StrCat("/proc/", pid, "/stat"), 4096);
      if (stat.ok() && stat->find(") D ") != std::string::npos) return true;
    }
    return false;
  };
  ASSERT_TRUE(Eventually(asleep));
  cri::StopContainerRequest stop;
  stop.set_container_id(id);
  EXPECT_THAT(client().Call(&RuntimeStub::StopContainer, stop, absl::Seconds(2)),
              HasCode(absl::StatusCode::kDeadlineExceeded));
  EXPECT_OK(Exec(other, {"true"}));
  EXPECT_OK(StopContainer(other, 0));
  disk.Thaw();
  EXPECT_OK(StopContainer(id, 0));  // The next call works.
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(id));
  EXPECT_EQ(status.exit_code(), 137);
  EXPECT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

}  // namespace
}  // namespace test
