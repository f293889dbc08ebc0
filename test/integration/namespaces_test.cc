// The namespaces of pods and containers: which are shared, what is set in them, what is refused.
#include <unistd.h>

#include <functional>

#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using absl::StatusCode;
using testing::HasSubstr;
using testing::IsEmpty;

class NamespacesTest : public IntegrationTest {
 protected:
  static cri::NamespaceOption* Options(cri::RunPodSandboxRequest* request) {
    return request->mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options();
  }
  static cri::NamespaceOption* Options(cri::CreateContainerRequest* request) {
    return request->mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options();
  }
  std::string Output(const std::string& container, std::vector<std::string> command) const {
    const auto result = Exec(container, std::move(command));
    return result.ok() ? result->stdout() : result.status().ToString();
  }
  std::string NamespaceOf(const std::string& container, std::string_view type) const {
    return Output(container, {"readlink", base::StrCat("/proc/self/ns/", type)});
  }
  std::string HostNamespace(std::string_view type) const {
    return RunProgram({"readlink", base::StrCat("/proc/self/ns/", type)}).value_or("?");
  }
  // Refused with this code and a message that has `field`; nothing is left.
  void ExpectRefused(const cri::RunPodSandboxRequest& request, StatusCode code,
                     std::string_view field) {
    const absl::Status refused = RunPod(request).status();
    EXPECT_THAT(refused, HasCode(code));
    EXPECT_THAT(std::string(refused.message()), HasSubstr(std::string(field)));
    ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
    EXPECT_EQ(pods.size(), 0u);
    EXPECT_THAT(Leftovers(), IsEmpty()) << refused;
  }
};

TEST_F(NamespacesTest, EachModeOfThePidNamespaceIsWhatItSays) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("pids"));
  const auto container = [&](const std::string& name, cri::NamespaceMode mode,
                             const std::string& target = "") {
    cri::CreateContainerRequest request = ContainerRequest(pod, name, "exec sleep 4321");
    Options(&request)->set_pid(mode);
    Options(&request)->set_target_id(target);
    auto id = Create(request);
    EXPECT_OK(id);
    EXPECT_OK(Start(id.value_or("")));
    return id.value_or("");
  };
  const std::string own = container("own", cri::CONTAINER);
  const std::string host = container("host", cri::NODE);
  const std::string debug = container("debug", cri::TARGET, own);
  EXPECT_NE(NamespaceOf(own, "pid"), HostNamespace("pid"));
  EXPECT_EQ(NamespaceOf(host, "pid"), HostNamespace("pid"));
  EXPECT_EQ(NamespaceOf(debug, "pid"), NamespaceOf(own, "pid"));
  EXPECT_THAT(Output(own, {"cat", "/proc/1/cmdline"}), HasSubstr("sleep"));
  for (const char* type : {"net", "ipc", "uts"}) {
    EXPECT_EQ(NamespaceOf(own, type), NamespaceOf(host, type)) << type;
    EXPECT_NE(NamespaceOf(own, type), HostNamespace(type)) << type;
  }
  // The target's end is not held up by who joined it, and takes that along.
  ASSERT_OK(StopContainer(own, 0));
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus ended, WaitForExit(debug));
  EXPECT_EQ(ended.exit_code(), 137);
}

TEST_F(NamespacesTest, ATargetThatCannotBeJoinedIsRefused) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("one"));
  ASSERT_OK_AND_ASSIGN(const std::string other_pod, RunPod("two"));
  ASSERT_OK_AND_ASSIGN(const std::string elsewhere,
                       RunContainer(other_pod, "c", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string created,
                       Create(ContainerRequest(pod, "created", "exec sleep 4321")));
  ASSERT_OK_AND_ASSIGN(const std::string ended, RunContainer(pod, "ended", "true"));
  ASSERT_OK(WaitForExit(ended));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> before, Containers());
  const std::pair<std::string, StatusCode> targets[] = {
      {elsewhere, StatusCode::kInvalidArgument},
      {"", StatusCode::kInvalidArgument},
      {std::string(64, 'a'), StatusCode::kInvalidArgument},
      {created, StatusCode::kFailedPrecondition},
      {ended, StatusCode::kFailedPrecondition}};
  for (const auto& [target, code] : targets) {
    cri::CreateContainerRequest request = ContainerRequest(pod, "debug", "exec sleep 4321");
    Options(&request)->set_pid(cri::TARGET);
    Options(&request)->set_target_id(target);
    const absl::Status refused = Create(request).status();
    EXPECT_THAT(refused, HasCode(code)) << target;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("namespace_options.target_id"));
  }
  cri::CreateContainerRequest request = ContainerRequest(pod, "shared", "exec sleep 4321");
  Options(&request)->set_pid(cri::POD);
  EXPECT_THAT(Create(request), HasCode(StatusCode::kFailedPrecondition))
      << "the pod was made without a shared one";
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::Container> after, Containers());
  EXPECT_EQ(before.size(), after.size());
}

TEST_F(NamespacesTest, ModesThatMakeNoSenseAreRefusedByField) {
  const auto pod = [&](const std::function<void(cri::NamespaceOption*)>& change) {
    cri::RunPodSandboxRequest request = PodRequest("bad");
    change(Options(&request));
    return request;
  };
  const StatusCode bad = StatusCode::kInvalidArgument;
  ExpectRefused(pod([](auto* o) { o->set_network(cri::CONTAINER); }), bad,
                "namespace_options.network");
  ExpectRefused(pod([](auto* o) { o->set_ipc(cri::TARGET); }), bad, "namespace_options.ipc");
  ExpectRefused(pod([](auto* o) { o->set_pid(cri::TARGET); }), bad, "namespace_options.pid");
  ExpectRefused(pod([](auto* o) { o->set_pid(static_cast<cri::NamespaceMode>(9)); }), bad,
                "namespace_options.pid");
}

TEST_F(NamespacesTest, HostnameIsThePodsAndOnTheHostsNetworkTheNodes) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = PodRequest("named");
  const std::string longest(64, 'n');
  request.mutable_config()->set_hostname(longest);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod, "c", "exec sleep 4321"));
  EXPECT_EQ(Output(id, {"hostname"}), longest + "\n");
  EXPECT_EQ(Output(id, {"sh", "-c", "echo $HOSTNAME"}), longest + "\n");
  EXPECT_EQ(Output(id, {"cat", "/etc/hostname"}), longest + "\n");

  request = PodRequest("onhost");
  Options(&request)->set_network(cri::NODE);
  request.mutable_config()->clear_hostname();
  ASSERT_OK_AND_ASSIGN(const std::string host_pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string on_host, RunContainer(host_pod, "c", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const std::string node, RunProgram({"hostname"}));
  EXPECT_EQ(Output(on_host, {"hostname"}), node);
  EXPECT_EQ(Output(on_host, {"sh", "-c", "echo $HOSTNAME"}), node);
  EXPECT_EQ(Output(on_host, {"cat", "/etc/hostname"}), node);
  EXPECT_EQ(NamespaceOf(on_host, "uts"), HostNamespace("uts"));
}

TEST_F(NamespacesTest, HostnamesThatAreNoneAreRefused) {
  for (const std::string& name :
       {std::string(65, 'n'), std::string("a b"), std::string("a\nb"), std::string("a/b")}) {
    cri::RunPodSandboxRequest request = PodRequest("bad");
    request.mutable_config()->set_hostname(name);
    ExpectRefused(request, StatusCode::kInvalidArgument, "hostname");
  }
}

TEST_F(NamespacesTest, SysctlsAreSetInThePodsOwnNamespaces) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = PodRequest("sysctls");
  auto& sysctls = *request.mutable_config()->mutable_linux()->mutable_sysctls();
  sysctls["kernel.shm_rmid_forced"] = "1";
  sysctls["fs.mqueue.msg_max"] = "100";
  sysctls["net/ipv4/ip_unprivileged_port_start"] = "79";
  sysctls["net.ipv4.conf.lo.forwarding"] = "1";
  ASSERT_OK_AND_ASSIGN(const std::string before,
                       base::ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod, "c", "exec sleep 4321"));
  EXPECT_EQ(Output(id, {"cat", "/proc/sys/kernel/shm_rmid_forced"}), "1\n");
  EXPECT_EQ(Output(id, {"cat", "/proc/sys/fs/mqueue/msg_max"}), "100\n");
  EXPECT_EQ(Output(id, {"cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"}), "79\n");
  EXPECT_EQ(Output(id, {"cat", "/proc/sys/net/ipv4/conf/lo/forwarding"}), "1\n");
  ASSERT_OK_AND_ASSIGN(const std::string after,
                       base::ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"));
  EXPECT_EQ(before, after) << "the host's";
}

TEST_F(NamespacesTest, SysctlsThatAreNotThePodsAreRefusedByName) {
  const auto with = [&](const std::string& name, const std::string& value, bool host) {
    cri::RunPodSandboxRequest request = PodRequest("bad");
    (*request.mutable_config()->mutable_linux()->mutable_sysctls())[name] = value;
    if (host) {
      Options(&request)->set_network(cri::NODE);
      Options(&request)->set_ipc(cri::NODE);
      request.mutable_config()->clear_hostname();
    }
    return request;
  };
  const StatusCode bad = StatusCode::kInvalidArgument;
  ExpectRefused(with("vm.swappiness", "1", false), bad, "sysctls[\"vm.swappiness\"]");
  ExpectRefused(with("kernel/panic", "1", false), bad, "sysctls[\"kernel/panic\"]");
  ExpectRefused(with("net/../vm/swappiness", "1", false), bad, "sysctls[\"net/../vm/swappiness\"]");
  ExpectRefused(with("net.core.somaxconn", "12", true), bad, "sysctls[\"net.core.somaxconn\"]");
  ExpectRefused(with("kernel.msgmax", "12", true), bad, "sysctls[\"kernel.msgmax\"]");
  ExpectRefused(with("net.core.somaxconn", "many", false), bad, "sysctls[\"net.core.somaxconn\"]");
  ExpectRefused(with("net.ipv4.no_such", "1", false), StatusCode::kFailedPrecondition,
                "sysctls[\"net.ipv4.no_such\"]");
}

TEST_F(NamespacesTest, HostIpcShowsTheHostsSegmentsAndMemory) {
  ASSERT_OK(Pull(kBusybox));
  cri::RunPodSandboxRequest request = PodRequest("hostipc");
  Options(&request)->set_ipc(cri::NODE);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod, "c", "exec sleep 4321"));
  EXPECT_EQ(NamespaceOf(id, "ipc"), HostNamespace("ipc"));
  const std::string name = base::StrCat("/dev/shm/", environment().name());
  ASSERT_OK(base::ReplaceFile(name, "ours", 0600, base::Durability::kVolatile));
  EXPECT_EQ(Output(id, {"cat", name}), "ours");
  ASSERT_EQ(unlink(name.c_str()), 0);
}

}  // namespace
}  // namespace test
