// The keys of the configuration that say what every container has: each does what its help says,
// and gives way to the pod.
#include <functional>

#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class NodeDefaultsTest : public IntegrationTest, public testing::WithParamInterface<std::string> {
 protected:
  NodeDefaultsTest() : IntegrationTest(GetParam()) {}
  void Prepare() override {
    constexpr char kKeys[] = R"([crisp.runtime]
default_capabilities = ["CHOWN", "CAP_NET_RAW"]
default_env = ["OF_NODE=node", "OF_POD=node", "PATH=/node"]
default_ulimits = ["nofile=123:456", "core=-1:-1"]
default_sysctls = ["net.ipv4.ip_unprivileged_port_start=1234", "kernel.msgmax=4242"]
pids_limit = 17
)";
    ASSERT_OK(environment().EditConfig("[crisp.runtime]\n", kKeys));
  }
  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
  }
  // What `script` writes in a container of `pod`, changed by `change`.
  std::string Output(const std::string& pod, const std::string& script,
                     const std::function<void(cri::ContainerConfig*)>& change = {}) {
    cri::CreateContainerRequest request = ContainerRequest(pod, "c", script);
    if (change) change(request.mutable_config());
    const auto container = Create(request);
    EXPECT_OK(container);
    if (!container.ok()) return "";
    EXPECT_OK(Start(*container));
    EXPECT_OK(WaitForExit(*container));
    std::string output = ReadLog("pod", "c.log");
    EXPECT_OK(RemoveContainer(*container));
    return output;
  }
};
INSTANTIATE_TEST_SUITE_P(, NodeDefaultsTest, testing::Values("crun", "runc"),
                         [](const auto& one) { return one.param; });

TEST_P(NodeDefaultsTest, EveryContainerHasThem) {
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  const std::string output = Output(
      pod,
      "grep -E 'Cap(Eff|Bnd)' /proc/self/status; env; ulimit -S -n; ulimit -H -n; ulimit -S -c;"
      "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax;"
      "echo pids $(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null)",
      [](cri::ContainerConfig* config) {
        cri::KeyValue* variable = config->add_envs();
        variable->set_key("OF_POD");
        variable->set_value("pod");
      });
  EXPECT_THAT(output, AllOf(HasSubstr("CapEff:\t0000000000002001"),
                            HasSubstr("CapBnd:\t0000000000002001"), HasSubstr("OF_NODE=node"),
                            HasSubstr("OF_POD=pod"), HasSubstr(" F 123\n"), HasSubstr(" F 456\n")));
  EXPECT_THAT(output, AllOf(HasSubstr("unlimited"), HasSubstr(" F 1234\n"), HasSubstr(" F 4242\n"),
                            HasSubstr("pids 17\n")));
}

TEST_P(NodeDefaultsTest, ThePodsSysctlsAndCapabilitiesWin) {
  cri::RunPodSandboxRequest request = PodRequest("pod");
  (*request.mutable_config()->mutable_linux()->mutable_sysctls())["kernel.msgmax"] = "777";
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  const std::string output =
      Output(pod, "cat /proc/sys/kernel/msgmax; grep CapEff /proc/self/status",
             [](cri::ContainerConfig* config) {
               auto* capabilities =
                   config->mutable_linux()->mutable_security_context()->mutable_capabilities();
               capabilities->add_drop_capabilities("NET_RAW");
               capabilities->add_add_capabilities("KILL");
             });
  EXPECT_THAT(output, AllOf(HasSubstr(" F 777\n"), HasSubstr("CapEff:\t0000000000000021")));
}

TEST_P(NodeDefaultsTest, TheLimitOfProcessesHolds) {
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pod"));
  EXPECT_THAT(
      Output(pod, "exec 2>&1; for i in $(seq 30); do sleep 4321 & done || echo refused; echo end"),
      testing::AnyOf(HasSubstr("can't fork"), HasSubstr("refused")));
}

TEST_P(NodeDefaultsTest, ABadValueStopsTheStartAndNamesItsLine) {
  ASSERT_OK(daemon().Stop());
  std::string before = "pids_limit = 17\n";
  for (const auto& [line, word] : std::vector<std::pair<std::string, std::string>>{
           {"pids_limit = -2", "pids_limit"},
           {"pids_limit = \"many\"", "pids_limit"},
           {"additional_devices = [\"/etc/fuse\"]", "additional_devices"},
           {"hooks_dir = [\"hooks\"]", "hooks_dir"},
           {"cdi_spec_dirs = \"/etc/cdi\"", "cdi_spec_dirs"},
           {"allowed_devices = [\"fuse\"]", "allowed_devices"}}) {
    ASSERT_OK(environment().EditConfig(before, line + "\n"));
    before = line + "\n";
    const absl::Status started = daemon().Start();
    EXPECT_FALSE(started.ok()) << line;
    EXPECT_THAT(std::string(started.message()), AllOf(HasSubstr("crisp.conf:"), HasSubstr(word)));
  }
  ASSERT_OK(environment().EditConfig(before, "default_sysctls = []\n"));
  EXPECT_FALSE(daemon().Start().ok()) << "a key that is there twice";
}

}  // namespace
}  // namespace test
