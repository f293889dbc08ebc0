// Limits: what the request says stands in the cgroup's files, now and after an update, by crun and
// runc, with both cgroup drivers, on whichever cgroup version the machine has.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "base/systemd.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::HasSubstr;

constexpr int64_t kMiB = 1 << 20;

struct Case {
  const char* runtime;
  const char* manager;
};

bool V2() { return base::HostCgroupMode() == base::CgroupMode::kV2; }

class ResourcesTest : public IntegrationTest, public testing::WithParamInterface<Case> {
 protected:
  ResourcesTest() : IntegrationTest(GetParam().runtime) {}

  void SetUp() override {
    if (Systemd() && !base::SystemdIsInit()) GTEST_SKIP() << "SKIP: systemd as process 1";
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    cri::RunPodSandboxRequest request = PodRequest("pod");
    request.mutable_config()->mutable_linux()->set_cgroup_parent(Parent());
    ASSERT_OK_AND_ASSIGN(pod_, RunPod(request));
  }

  void TearDown() override {
    if (Systemd() && base::SystemdIsInit() && !pod_.empty()) {
      EXPECT_OK(RemovePod(pod_));
      EXPECT_OK(base::StopSystemdUnit(base::Context::Detached(absl::Seconds(60)), Parent()));
    }
    IntegrationTest::TearDown();
  }

  void Prepare() override {
    ASSERT_OK(
        environment().EditConfig("cgroup_manager = \"cgroupfs\"",
                                 base::StrCat("cgroup_manager = \"", GetParam().manager, "\"")));
  }

  bool Systemd() const { return std::string_view(GetParam().manager) == "systemd"; }
  std::string Stem() const {
    const std::string name = environment().name();
    return "crisptest_" + name.substr(name.find('.') + 1);
  }
  std::string Parent() const { return Systemd() ? Stem() + ".slice" : CgroupParent("pod"); }

  // The container's cgroup, below the root of each hierarchy.
  std::string Cgroup(const std::string& id) const {
    return Systemd() ? base::StrCat("/", Parent(), "/crisp-", id, ".scope")
                     : base::StrCat(Parent(), "/crisp-", id);
  }

  // The content of a file of the container's cgroup, without the line's end.
  std::string File(const std::string& id, const char* controller, const char* v1,
                   const char* v2) const {
    const std::string scope = base::CgroupDirectory(controller, Cgroup(id));
    // crun gives the processes of a scope, and their limits, a cgroup in it.
    const std::string inner = scope + "/container";
    const auto text =
        base::ReadFile(base::StrCat(base::Exists(inner) ? inner : scope, "/", V2() ? v2 : v1));
    return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : text.status().ToString();
  }
  std::string Memory(const std::string& id) const {
    return File(id, "memory", "memory.limit_in_bytes", "memory.max");
  }
  // "QUOTA PERIOD".
  std::string Bandwidth(const std::string& id) const {
    return V2() ? File(id, "cpu", "", "cpu.max")
                : File(id, "cpu", "cpu.cfs_quota_us", "") + " " +
                      File(id, "cpu", "cpu.cfs_period_us", "");
  }

  // Of a pod that names no parent.
  std::string OwnCgroup(const std::string& pod) const {
    return Systemd() ? base::StrCat("/crisp.slice/crisp-", pod, ".slice")
                     : base::StrCat("/crisp/", pod);
  }
  static bool Exists(const std::string& cgroup) {
    const std::vector<std::string> directories = base::CgroupDirectories(cgroup);
    return std::any_of(directories.begin(), directories.end(), base::Exists);
  }

  cri::CreateContainerRequest Request(std::string_view name,
                                      std::string_view script = "exec sleep 4321") const {
    return ContainerRequest(pod_, name, script);
  }
  static cri::LinuxContainerResources* Of(cri::CreateContainerRequest* request) {
    return request->mutable_config()->mutable_linux()->mutable_resources();
  }

  absl::Status Update(const std::string& id, const cri::LinuxContainerResources& update) const {
    cri::UpdateContainerResourcesRequest request;
    request.set_container_id(id);
    *request.mutable_linux() = update;
    return client().Call(&RuntimeStub::UpdateContainerResources, request).status();
  }

  cri::LinuxContainerResources InForce(const std::string& id) const {
    const auto status = Status(id);
    EXPECT_OK(status);
    return status.ok() ? status->resources().linux() : cri::LinuxContainerResources();
  }

  void ExpectRefused(const std::string& id, const cri::LinuxContainerResources& update,
                     absl::StatusCode code, const std::string& field) const {
    const absl::Status status = Update(id, update);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("linux." + field + ": "));
  }

  std::string pod_;
};

TEST_P(ResourcesTest, LimitsAreInTheFilesAndInTheStatus) {
  cri::CreateContainerRequest request = Request("c");
  Of(&request)->set_cpu_quota(25000);
  Of(&request)->set_cpu_shares(512);
  Of(&request)->set_memory_limit_in_bytes(64 * kMiB);
  Of(&request)->set_cpuset_cpus("0");
  ASSERT_OK_AND_ASSIGN(const std::string id, Create(request));
  ASSERT_OK(Start(id));
  EXPECT_EQ(Bandwidth(id), "25000 100000");
  EXPECT_EQ(Memory(id), base::StrCat(64 * kMiB));
  EXPECT_EQ(File(id, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
  if (!V2()) {
    EXPECT_EQ(File(id, "cpu", "cpu.shares", ""), "512");
  }
  const cri::LinuxContainerResources shown = InForce(id);
  EXPECT_EQ(shown.cpu_quota(), 25000);
  EXPECT_EQ(shown.cpu_period(), 100000);
  EXPECT_EQ(shown.cpu_shares(), 512);
  EXPECT_EQ(shown.memory_limit_in_bytes(), 64 * kMiB);
  EXPECT_EQ(shown.cpuset_cpus(), "0");
}

TEST_P(ResourcesTest, AnUpdateChangesWhatItNamesAlsoAfterARestart) {
  cri::CreateContainerRequest request = Request("c");
  Of(&request)->set_cpu_quota(25000);
  Of(&request)->set_memory_limit_in_bytes(64 * kMiB);
  ASSERT_OK_AND_ASSIGN(const std::string id, Create(request));
  ASSERT_OK(Start(id));
  cri::LinuxContainerResources update;
  update.set_cpu_quota(50000);
  update.set_cpu_period(200000);
  update.set_cpuset_cpus("0");
  ASSERT_OK(Update(id, update));
  EXPECT_EQ(Bandwidth(id), "50000 200000");
  EXPECT_EQ(Memory(id), base::StrCat(64 * kMiB));
  EXPECT_EQ(File(id, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
  // Up and down again: with swap counted in either order matters to the kernel.
  for (const int64_t limit : {256 * kMiB, 32 * kMiB, 128 * kMiB}) {
    cri::LinuxContainerResources memory;
    memory.set_memory_limit_in_bytes(limit);
    ASSERT_OK(Update(id, memory));
    EXPECT_EQ(Memory(id), base::StrCat(limit));
    EXPECT_EQ(Bandwidth(id), "50000 200000");
  }
  ASSERT_OK(CrashAndRestart());
  const cri::LinuxContainerResources shown = InForce(id);
  EXPECT_EQ(shown.cpu_quota(), 50000);
  EXPECT_EQ(shown.cpu_period(), 200000);
  EXPECT_EQ(shown.memory_limit_in_bytes(), 128 * kMiB);
  // What comes after the restart goes on from there.
  update.Clear();
  update.set_cpu_quota(-1);
  ASSERT_OK(Update(id, update));
  EXPECT_THAT(Bandwidth(id), testing::AnyOf("-1 200000", "max 200000"));
  EXPECT_EQ(Memory(id), base::StrCat(128 * kMiB));
}

TEST_P(ResourcesTest, ACreatedContainerIsUpdatedAndStartsWithThat) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Create(Request("c")));
  cri::LinuxContainerResources update;
  update.set_memory_limit_in_bytes(48 * kMiB);
  update.set_cpu_quota(30000);
  ASSERT_OK(Update(id, update));
  ASSERT_OK(Start(id));
  EXPECT_EQ(Memory(id), base::StrCat(48 * kMiB));
  EXPECT_EQ(Bandwidth(id), "30000 100000");
  EXPECT_EQ(InForce(id).memory_limit_in_bytes(), 48 * kMiB);
}

TEST_P(ResourcesTest, TheOomScoreChangesForAllProcessesAndNewExecs) {
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod_, "c", "sleep 4321 & echo up; wait"));
  ASSERT_TRUE(LogGets("pod", "c.log", "up"));
  cri::LinuxContainerResources update;
  update.set_oom_score_adj(567);
  ASSERT_OK(Update(id, update));
  const std::vector<pid_t> processes = base::CgroupProcesses(Cgroup(id));
  EXPECT_GE(processes.size(), 2u);
  for (const pid_t pid : processes) {
    EXPECT_EQ(base::ReadFile(base::StrCat("/proc/", pid, "/oom_score_adj")).value_or(""), "567\n");
  }
  if (std::string_view(GetParam().runtime) == "crun") {  // runc gives an exec the create's.
    ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse exec,
                         Exec(id, {"cat", "/proc/self/oom_score_adj"}));
    EXPECT_EQ(exec.stdout(), "567\n");
  }
  EXPECT_EQ(InForce(id).oom_score_adj(), 567);
}

TEST_P(ResourcesTest, HugepagesAndUnifiedAreUpdated) {
  cri::CreateContainerRequest request = Request("c");
  cri::HugepageLimit* pages = Of(&request)->add_hugepage_limits();
  pages->set_page_size("2MB");
  pages->set_limit(0);
  ASSERT_OK_AND_ASSIGN(const std::string id, Create(request));
  ASSERT_OK(Start(id));
  const char* v1 = "hugetlb.2MB.limit_in_bytes";
  const char* v2 = "hugetlb.2MB.max";
  if (!absl::StartsWith(File(id, "hugetlb", v1, v2), "0")) {
    GTEST_SKIP() << "SKIP: hugepages of 2MB: " << File(id, "hugetlb", v1, v2);
  }
  cri::LinuxContainerResources update;
  pages = update.add_hugepage_limits();
  pages->set_page_size("2MB");
  pages->set_limit(4 * kMiB);
  if (V2()) (*update.mutable_unified())["memory.high"] = base::StrCat(512 * kMiB);
  ASSERT_OK(Update(id, update));
  EXPECT_EQ(File(id, "hugetlb", v1, v2), base::StrCat(4 * kMiB));
  if (V2()) {
    EXPECT_EQ(File(id, "memory", "", "memory.high"), base::StrCat(512 * kMiB));
  }
  // Another update leaves it.
  update.Clear();
  update.set_cpu_shares(100);
  ASSERT_OK(Update(id, update));
  EXPECT_EQ(File(id, "hugetlb", v1, v2), base::StrCat(4 * kMiB));
}

TEST_P(ResourcesTest, MemoryInUseIsNotTakenAway) {
  ASSERT_OK_AND_ASSIGN(const std::string id,
                       RunContainer(pod_, "c",
                                    "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo held; "
                                    "sleep 4321; echo ${#x}"));
  ASSERT_TRUE(LogGets("pod", "c.log", "held"));
  const std::string before = Memory(id);
  cri::LinuxContainerResources update;
  update.set_memory_limit_in_bytes(20 * kMiB);
  update.set_cpu_quota(10000);
  ExpectRefused(id, update, absl::StatusCode::kFailedPrecondition, "memory_limit_in_bytes");
  EXPECT_EQ(Memory(id), before);
  EXPECT_FALSE(absl::StartsWith(Bandwidth(id), "10000"));
  EXPECT_EQ(InForce(id).cpu_quota(), 0);
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(id));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
}

TEST_P(ResourcesTest, ABadUpdateIsRefusedByItsFieldAndChangesNothing) {
  cri::CreateContainerRequest request = Request("c");
  Of(&request)->set_cpu_quota(25000);
  Of(&request)->set_memory_limit_in_bytes(64 * kMiB);
  ASSERT_OK_AND_ASSIGN(const std::string id, Create(request));
  ASSERT_OK(Start(id));
  const std::string before = InForce(id).SerializeAsString();
  const auto refused = [&](const char* field, auto change,
                           absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    cri::LinuxContainerResources update;
    change(&update);
    ExpectRefused(id, update, code, field);
  };
  refused("cpu_shares", [](auto* update) { update->set_cpu_shares(300000); });
  refused("cpu_quota", [](auto* update) { update->set_cpu_quota(-7); });
  refused("cpu_period", [](auto* update) { update->set_cpu_period(5); });
  refused("cpuset_cpus", [](auto* update) { update->set_cpuset_cpus("a"); });
  refused("cpuset_mems", [](auto* update) { update->set_cpuset_mems("0;1"); });
  refused("oom_score_adj", [](auto* update) { update->set_oom_score_adj(1001); });
  refused("memory_limit_in_bytes", [](auto* update) { update->set_memory_limit_in_bytes(4096); });
  refused("memory_swap_limit_in_bytes",
          [](auto* update) { update->set_memory_swap_limit_in_bytes(32 * kMiB); });
  refused(
      "hugepage_limits[0]",
      [](auto* update) {
        update->add_hugepage_limits()->set_page_size("3MB");
        update->mutable_hugepage_limits(0)->set_limit(1);
      },
      absl::StatusCode::kFailedPrecondition);
  refused(
      "unified[\"cgroup.procs\"]",
      [](auto* update) { (*update->mutable_unified())["cgroup.procs"] = "1"; },
      V2() ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(InForce(id).SerializeAsString(), before);
  EXPECT_EQ(Bandwidth(id), "25000 100000");
  EXPECT_EQ(Memory(id), base::StrCat(64 * kMiB));
  // A CPU that does not exist is the kernel's to refuse: what went before it is taken back.
  cri::LinuxContainerResources update;
  update.set_cpu_quota(77000);
  update.set_cpuset_cpus("4000");
  EXPECT_FALSE(Update(id, update).ok());
  EXPECT_EQ(Bandwidth(id), "25000 100000");
  EXPECT_EQ(InForce(id).SerializeAsString(), before);
}

TEST_P(ResourcesTest, OnlyALivingContainerIsUpdated) {
  cri::LinuxContainerResources update;
  update.set_cpu_shares(100);
  EXPECT_THAT(Update(std::string(64, 'a'), update), HasCode(absl::StatusCode::kNotFound));
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod_, "c", "exit 0"));
  ASSERT_OK(WaitForExit(id));
  EXPECT_THAT(Update(id, update), HasCode(absl::StatusCode::kFailedPrecondition));
}

TEST_P(ResourcesTest, AMemoryLimitBelowTheRuntimesNeedsLeavesNothing) {
  cri::CreateContainerRequest request = Request("c");
  Of(&request)->set_memory_limit_in_bytes(4096);
  const auto created = Create(request);
  EXPECT_THAT(created, HasCode(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(created.status().message()),
              HasSubstr("linux.resources.memory_limit_in_bytes"));
  EXPECT_TRUE(Containers()->empty());
}

TEST_P(ResourcesTest, AnyOomKillIsTheReason) {
  constexpr char kEater[] = "x=$(head -c 60000000 /dev/zero | tr '\\0' x)";
  cri::CreateContainerRequest request = Request("init", kEater);
  Of(&request)->set_memory_limit_in_bytes(20 * kMiB);
  ASSERT_OK_AND_ASSIGN(const std::string init, Create(request));
  ASSERT_OK(Start(init));
  ASSERT_OK_AND_ASSIGN(cri::ContainerStatus status, WaitForExit(init));
  EXPECT_EQ(status.reason(), "OOMKilled");
  EXPECT_EQ(status.exit_code(), 137);

  request = Request(
      "child",
      base::StrCat("sh -c \"", "x=\\$(head -c 60000000 /dev/zero | tr '\\0' x)", "\"; exit 5"));
  Of(&request)->set_memory_limit_in_bytes(20 * kMiB);
  ASSERT_OK_AND_ASSIGN(const std::string child, Create(request));
  ASSERT_OK(Start(child));
  ASSERT_OK_AND_ASSIGN(status, WaitForExit(child));
  EXPECT_EQ(status.reason(), "OOMKilled");
  EXPECT_EQ(status.exit_code(), 5);
}

TEST_P(ResourcesTest, ThePodsResourcesAreTakenNoteOf) {
  cri::UpdatePodSandboxResourcesRequest request;
  request.set_pod_sandbox_id(pod_);
  request.mutable_resources()->set_memory_limit_in_bytes(kMiB);
  request.mutable_overhead()->set_cpu_shares(2);
  EXPECT_OK(client().Call(&RuntimeStub::UpdatePodSandboxResources, request));
  request.set_pod_sandbox_id(std::string(64, 'b'));
  EXPECT_THAT(client().Call(&RuntimeStub::UpdatePodSandboxResources, request),
              HasCode(absl::StatusCode::kNotFound));
}

TEST_P(ResourcesTest, AParentOfTheOtherDriverIsRefused) {
  cri::RunPodSandboxRequest request = PodRequest("wrong");
  request.mutable_config()->mutable_linux()->set_cgroup_parent(Systemd() ? "/a/b" : "a-b.slice");
  const auto pod = RunPod(request);
  EXPECT_THAT(pod, HasCode(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(std::string(pod.status().message()), HasSubstr("linux.cgroup_parent"));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  EXPECT_EQ(pods.size(), 1u);
  cri::RuntimeConfigResponse config =
      client().Call(&RuntimeStub::RuntimeConfig, cri::RuntimeConfigRequest()).value();
  EXPECT_EQ(config.linux().cgroup_driver(), Systemd() ? cri::SYSTEMD : cri::CGROUPFS);
}

// The cgroups of what was removed, and of what a crash interrupted, are gone; a pod goes on by the
// driver it was made with.
TEST_P(ResourcesTest, CgroupsOfPodsWithoutAParentGoWithThem) {
  cri::RunPodSandboxRequest request = PodRequest("own");
  request.mutable_config()->mutable_linux()->clear_cgroup_parent();
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string container,
                       RunContainer(pod, "c", "sleep 4321 & sleep 4321"));
  const std::string cgroup = OwnCgroup(pod);
  EXPECT_GE(base::CgroupProcesses(cgroup).size(), 1u);
  ASSERT_OK(daemon().Crash());
  if (base::SystemdIsInit()) {
    ASSERT_OK(environment().EditConfig(
        base::StrCat("cgroup_manager = \"", GetParam().manager, "\""),
        base::StrCat("cgroup_manager = \"", Systemd() ? "cgroupfs" : "systemd", "\"")));
  }
  ASSERT_OK(daemon().Start());
  ASSERT_OK(RunContainer(pod, "later", "exec sleep 4321"));
  ASSERT_OK(Exec(container, {"true"}));
  cri::LinuxContainerResources update;
  update.set_memory_limit_in_bytes(64 * kMiB);
  ASSERT_OK(Update(container, update));
  ASSERT_OK(RemovePod(pod));
  EXPECT_FALSE(Exists(cgroup));
}

// kill -9 at random moments of pods that have cgroups of their own.
TEST_P(ResourcesTest, ACrashLeavesNoCgroupOfAPodThatIsGone) {
  std::mt19937 random(EnvironmentNumber("CRISP_CRASH_SEED", std::random_device()()));
  const unsigned rounds = EnvironmentNumber("CRISP_CRASH_ROUNDS", 4);
  for (unsigned round = 0; round < rounds; ++round) {
    std::thread life([&] {
      for (int i = 0;; ++i) {
        cri::RunPodSandboxRequest request = PodRequest(base::StrCat("crash", round, "-", i));
        request.mutable_config()->mutable_linux()->clear_cgroup_parent();
        const auto pod = RunPod(request);
        if (!pod.ok() || !RunContainer(*pod, "c", "exec sleep 4321").ok()) return;
        if (!RemovePod(*pod).ok()) return;
      }
    });
    // The moment of the crash is the point of the test: nothing is waited for.
    poll(nullptr, 0, static_cast<int>(random() % 600));
    EXPECT_OK(daemon().Crash());
    life.join();
    const auto pods = base::ListDirectory(environment().Get("ROOT") + "/records/pods");
    ASSERT_OK(pods);
    ASSERT_OK(daemon().Start());
    for (const std::string& pod : *pods) {
      if (pod == pod_) continue;
      ASSERT_OK(RemovePod(pod));
      const std::string cgroup = OwnCgroup(pod);
      EXPECT_TRUE(Eventually([&] { return !Exists(cgroup); })) << cgroup;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Drivers, ResourcesTest,
                         testing::Values(Case{"crun", "cgroupfs"}, Case{"runc", "cgroupfs"},
                                         Case{"crun", "systemd"}, Case{"runc", "systemd"}),
                         [](const auto& test) {
                           return base::StrCat(test.param.runtime, "_", test.param.manager);
                         });

}  // namespace
}  // namespace test
