// Budgets: what a daemon and its monitors cost in memory, and where the time of a pod's start goes.
// Memory is proportional set size (PSS): shared pages are divided among those who share them.
#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

constexpr int kPods = 20;
constexpr int64_t kIdleKib = 9 * 1024;
constexpr int64_t kBusyKib = 12 * 1024;
constexpr int64_t kMonitorKib = 20;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// PSS in KiB; -1 when the process is gone.
int64_t PssKib(pid_t pid) {
  const auto rollup = base::ReadFile(base::StrCat("/proc/", pid, "/smaps_rollup"));
  if (!rollup.ok()) {
    return -1;
  }
  for (const auto& line : absl::StrSplit(*rollup, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t kib = 0;
    if (words.size() >= 2 && words[0] == "Pss:" && absl::SimpleAtoi(words[1], &kib)) {
      return kib;
    }
  }
  return -1;
}

class FootprintTest : public IntegrationTest {
 protected:
  // Runs `step`, notes how long it took under `name`.
  template <typename Step>
  auto Timed(const std::string& name, Step step) {
    const absl::Time start = absl::Now();
    auto result = step();
    times_[name].push_back(absl::ToDoubleMilliseconds(absl::Now() - start));
    return result;
  }

  void PrintTimes() {
    for (auto& [name, times] : times_) {
      std::sort(times.begin(), times.end());
      std::printf("%-28s %7.1f ms (median of %zu), %7.1f ms at most\n", name.c_str(),
                  times[times.size() / 2], times.size(), times.back());
    }
  }

  std::vector<int64_t> MonitorsKib() const {
    std::vector<int64_t> sizes;
    for (const pid_t pid :
         base::CgroupProcesses(base::StrCat("/", environment().name(), "/monitors"))) {
      sizes.push_back(PssKib(pid));
    }
    return sizes;
  }

  std::map<std::string, std::vector<double>> times_;
};

TEST_F(FootprintTest, MemoryStaysWithinItsBudget) {
  ASSERT_OK(Pull(kBusybox));
  const int64_t idle = PssKib(daemon().pid());
  std::vector<std::string> pods;
  std::vector<std::string> containers;
  for (int i = 0; i < kPods; ++i) {
    cri::RunPodSandboxRequest request = PodRequest(base::StrCat("pod", i));
    // As the kubelet asks: a PID namespace per container, so no holder process.
    request.mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options()
        ->set_pid(cri::CONTAINER);
    ASSERT_OK_AND_ASSIGN(const std::string pod,
                         Timed("1 RunPodSandbox (bridge)", [&] { return RunPod(request); }));
    cri::CreateContainerRequest create = ContainerRequest(pod, "c", "exec sleep 4321");
    cri::LinuxContainerSecurityContext* security =
        create.mutable_config()->mutable_linux()->mutable_security_context();
    security->mutable_namespace_options()->set_pid(cri::CONTAINER);
    security->mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
    ASSERT_OK_AND_ASSIGN(const std::string container,
                         Timed("2 CreateContainer", [&] { return Create(create); }));
    ASSERT_OK(Timed("3 StartContainer", [&] { return Start(container); }));
    ASSERT_OK(Timed("4 ExecSync true", [&] { return Exec(container, {"true"}); }));
    pods.push_back(pod);
    containers.push_back(container);
  }
  ASSERT_OK(Timed("5 ListContainers of 20", [&] { return Containers(); }));
  const int64_t busy = PssKib(daemon().pid());
  // A monitor gives its buffers back after a second of quiet.
  int64_t monitor = 0;
  EXPECT_TRUE(Eventually([&] {
    const std::vector<int64_t> monitors = MonitorsKib();
    monitor = std::accumulate(monitors.begin(), monitors.end(), int64_t{0}) / kPods;
    return monitors.size() == kPods && (kSanitized || monitor <= kMonitorKib);
  }));
  for (size_t i = 0; i < pods.size(); ++i) {
    ASSERT_OK(Timed("6 StopContainer (SIGKILL)", [&] { return StopContainer(containers[i], 0); }));
    ASSERT_OK(Timed("7 RemoveContainer", [&] { return RemoveContainer(containers[i]); }));
    ASSERT_OK(Timed("8 StopPodSandbox", [&] { return StopPod(pods[i]); }));
    ASSERT_OK(Timed("9 RemovePodSandbox", [&] { return RemovePod(pods[i]); }));
  }
  PrintTimes();
  std::printf("PSS of the daemon: idle %ld KiB, with %d pods %ld KiB; of a monitor %ld KiB\n",
              static_cast<long>(idle), kPods, static_cast<long>(busy), static_cast<long>(monitor));
  ASSERT_GT(idle, 0);
  if (kSanitized) {
    GTEST_SKIP() << "SKIP: memory budgets need a build without sanitizers";
  }
  EXPECT_LE(idle, kIdleKib);
  EXPECT_LE(busy, kBusyKib);
}

}  // namespace
}  // namespace test
