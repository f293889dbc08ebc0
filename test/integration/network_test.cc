// Pod networks with plugins that hang, fail or are missing.
#include <signal.h>
#include <sys/stat.h>

#include <thread>

#include "absl/strings/str_replace.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// A plugin that runs last and does what files beside it say: `hold` makes ADD wait until it is gone
// (`held` tells that it waits), `refuse` makes DEL fail. Each call is a line of `calls`.
constexpr char kGate[] = R"(#!/usr/bin/python3
import json, os, select, sys
here = os.path.dirname(os.path.abspath(__file__))
command = os.environ["CNI_COMMAND"]
if command == "VERSION":
    print(json.dumps({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}))
    sys.exit(0)
config = json.load(sys.stdin)
with open(here + "/calls", "a") as calls:
    calls.write(command + " " + os.environ["CNI_CONTAINERID"] + "\n")
if command == "ADD":
    while os.path.exists(here + "/hold"):
        open(here + "/held", "w").close()
        select.select([], [], [], 0.01)
    print(json.dumps(config["prevResult"]))
if command == "DEL" and os.path.exists(here + "/refuse"):
    print(json.dumps({"cniVersion": "1.0.0", "code": 100, "msg": "the gate refuses"}))
    sys.exit(1)
)";

class NetworkTest : public IntegrationTest {
 protected:
  std::string GatePath(std::string_view name) const {
    return base::StrCat(environment().Get("CNI"), "/bin/", name);
  }
  std::string ConflistPath() const {
    return base::StrCat(environment().Get("CNI"), "/conf/10-test.conflist");
  }

  void Prepare() override {
    ASSERT_OK(base::ReplaceFile(GatePath("gate"), kGate, 0755, base::Durability::kVolatile));
    ASSERT_OK(
        EditConflist("\"snat\": true\n    }", "\"snat\": true\n    },\n{\"type\": \"gate\"}"));
  }

  absl::Status EditConflist(const std::string& from, const std::string& to) const {
    ASSIGN_OR_RETURN(const std::string text, base::ReadFile(ConflistPath()));
    const std::string edited = absl::StrReplaceAll(text, {{from, to}});
    if (edited == text) return absl::NotFoundError("not in the network's configuration");
    return base::ReplaceFile(ConflistPath(), edited, 0644, base::Durability::kVolatile);
  }

  void Touch(std::string_view name) const {
    EXPECT_OK(base::ReplaceFile(GatePath(name), "", 0644, base::Durability::kVolatile));
  }
  void Remove(std::string_view name) const { EXPECT_OK(base::RemoveFile(GatePath(name))); }

  cri::RunPodSandboxRequest HostPod(std::string_view name) const {
    cri::RunPodSandboxRequest request = PodRequest(name);
    request.mutable_config()->clear_hostname();
    request.mutable_config()
        ->mutable_linux()
        ->mutable_security_context()
        ->mutable_namespace_options()
        ->set_network(cri::NODE);
    return request;
  }

  // The condition NetworkReady and its message.
  std::pair<bool, std::string> NetworkReady() const {
    const auto status = client().Call(&RuntimeStub::Status, cri::StatusRequest());
    if (!status.ok()) return {false, status.status().ToString()};
    for (const cri::RuntimeCondition& condition : status->status().conditions()) {
      if (condition.type() == "NetworkReady") return {condition.status(), condition.message()};
    }
    return {false, "no such condition"};
  }
};

TEST_F(NetworkTest, PodsReachEachOtherAndTheirWebServer) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK(Pull("crisp-test/web"));
  ASSERT_OK_AND_ASSIGN(const std::string server, RunPod("server"));
  cri::CreateContainerRequest request = ContainerRequest(server, "web", "");
  request.mutable_config()->clear_command();
  request.mutable_config()->mutable_image()->set_image(Image("crisp-test/web"));
  ASSERT_OK_AND_ASSIGN(const std::string web, Create(request));
  ASSERT_OK(Start(web));
  ASSERT_TRUE(LogGets("server", "web.log", "httpd: serving port 80"));
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus status, PodStatus(server));
  const std::string& ip = status.network().ip();
  ASSERT_OK_AND_ASSIGN(const std::string visitor, RunPod("visitor"));
  ASSERT_OK_AND_ASSIGN(const std::string shell, RunContainer(visitor, "c", "exec sleep 4321"));
  // Debian's static busybox has a wget that crashes; nc does.
  const std::string ask = base::StrCat("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 ", ip, " 80");
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse page, Exec(shell, {"sh", "-c", ask}));
  EXPECT_THAT(page.stdout(), HasSubstr("It works!"));
  ASSERT_OK_AND_ASSIGN(const std::string from_host, RunProgram({"busybox", "sh", "-c", ask}));
  EXPECT_THAT(from_host, HasSubstr("It works!"));
}

TEST_F(NetworkTest, AMissingPluginStopsPodNetworksOnly) {
  ASSERT_TRUE(NetworkReady().first) << NetworkReady().second;
  ASSERT_OK_AND_ASSIGN(const std::string before, RunPod("before"));
  ASSERT_OK(EditConflist("\"type\": \"gate\"", "\"type\": \"no-such-plugin\""));
  EXPECT_FALSE(NetworkReady().first);
  EXPECT_THAT(NetworkReady().second, HasSubstr("no-such-plugin"));
  const absl::Status refused = RunPod("refused").status();
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(refused.message(), HasSubstr("no-such-plugin"));
  ASSERT_OK_AND_ASSIGN(const std::string host, RunPod(HostPod("host")));
  EXPECT_OK(RemovePod(host));
  // It is detached by what it was attached with.
  EXPECT_OK(RemovePod(before));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());

  ASSERT_OK(EditConflist("\"type\": \"no-such-plugin\"", "\"type\": \"gate\""));
  EXPECT_TRUE(NetworkReady().first) << NetworkReady().second;
  EXPECT_OK(RunPod("after"));
}

TEST_F(NetworkTest, WithoutConfigurationHostPodsRun) {
  ASSERT_OK(base::RemoveFile(ConflistPath()));
  EXPECT_FALSE(NetworkReady().first);
  EXPECT_FALSE(RunPod("refused").ok());
  EXPECT_OK(RunPod(HostPod("host")));
}

TEST_F(NetworkTest, AFailedDetachIsRetriedUntilItSucceeds) {
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("debtor"));
  Touch("refuse");
  // Whether the stop itself reports the failure is not promised; that the address comes back is.
  static_cast<void>(StopPod(pod));
  static_cast<void>(RemovePod(pod));
  EXPECT_THAT(base::ReadFile(GatePath("calls")).value_or(""), HasSubstr("DEL " + pod));
  EXPECT_THAT(Leftovers(), testing::Contains(HasSubstr("address")));
  Remove("refuse");
  EXPECT_TRUE(Eventually(
      [&] {
        for (const std::string& left : Leftovers()) {
          if (left.starts_with("address")) return false;
        }
        return true;
      },
      absl::Seconds(40)));
  EXPECT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(NetworkTest, ADetachIsStillOwedAfterACrash) {
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("debtor"));
  Touch("refuse");
  static_cast<void>(StopPod(pod));
  static_cast<void>(RemovePod(pod));
  ASSERT_OK(daemon().Crash());
  EXPECT_THAT(Leftovers(), testing::Contains(HasSubstr("address")));
  Remove("refuse");
  ASSERT_OK(daemon().Start());
  EXPECT_OK(RemovePod(pod));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }, absl::Seconds(40)));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(NetworkTest, ACrashDuringTheAddLeavesNothing) {
  Touch("hold");
  std::thread caller([&] { EXPECT_FALSE(RunPod("half").ok()); });
  EXPECT_TRUE(Eventually([&] { return base::Exists(GatePath("held")); }));
  EXPECT_OK(daemon().Crash());
  caller.join();
  ASSERT_OK(daemon().Start());
  Remove("hold");
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  EXPECT_EQ(pods.size(), 0u);
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
  // Its name is free again.
  EXPECT_OK(RunPod("half"));
}

TEST_F(NetworkTest, ACancelledRunLeavesNothing) {
  Touch("hold");
  const cri::RunPodSandboxRequest request = PodRequest("cancelled");
  grpc::ClientContext context;
  std::thread caller([&] {
    cri::RunPodSandboxResponse response;
    const grpc::Status pod = client().runtime().RunPodSandbox(&context, request, &response);
    EXPECT_EQ(pod.error_code(), grpc::StatusCode::CANCELLED);
  });
  EXPECT_TRUE(Eventually([&] { return base::Exists(GatePath("held")); }));
  context.TryCancel();
  caller.join();
  Remove("hold");
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(NetworkTest, AHangingPluginDoesNotHoldOtherVerbs) {
  Touch("hold");
  std::thread caller([&] { EXPECT_OK(RunPod("slow")); });
  EXPECT_TRUE(Eventually([&] { return base::Exists(GatePath("held")); }));
  EXPECT_OK(client().Call(&RuntimeStub::Status, cri::StatusRequest(), absl::Seconds(5)));
  EXPECT_OK(RunPod(HostPod("host")));
  ASSERT_OK_AND_ASSIGN(const std::vector<cri::PodSandbox> pods, Pods());
  EXPECT_EQ(pods.size(), 1u) << "a pod that is being made is not listed";
  Remove("hold");
  caller.join();
}

}  // namespace
}  // namespace test
