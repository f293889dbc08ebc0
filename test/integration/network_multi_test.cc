// Several networks, CNI 1.1's STATUS and GC, plugins that hang, lost records: with real plugins and
// with one that records what it is told.
#include <fcntl.h>
#include <sys/stat.h>

#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// Logs "COMMAND container" and keeps its input; hang-COMMAND and fail-COMMAND beside it say what
// else it does.
constexpr char kRecorder[] = R"(#!/bin/sh
here=$(dirname "$0")
cat > "$here/input-$CNI_COMMAND"
echo "$CNI_COMMAND $CNI_CONTAINERID" >> "$here/calls"
[ -e "$here/hang-$CNI_COMMAND" ] && exec sleep 1000
[ -e "$here/fail-$CNI_COMMAND" ] && { echo '{"code":50,"msg":"the recorder is ill"}'; exit 1; }
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.1.0","ips":[{"address":"10.255.255.1/32"}]}'
exit 0
)";

class NetworkMultiTest : public IntegrationTest {
 protected:
  std::string Path(std::string_view name) const {
    return base::StrCat(environment().Get("CNI"), "/", name);
  }
  void Write(const std::string& path, std::string_view text, unsigned mode = 0644) const {
    EXPECT_OK(base::ReplaceFile(path, text, mode, base::Durability::kVolatile));
  }
  void Prepare() override {
    Write(Path("bin/recorder"), kRecorder, 0755);
    Write(Path("conf/20-second.conflist"),
          base::StrCat(R"({"cniVersion":"1.0.0","name":"second","plugins":[{"type":"bridge",
            "bridge":")",
                       environment().Get("BRIDGE"), R"(","ipam":{"type":"host-local","dataDir":")",
                       Path("ipam"), R"(","subnet":"10.254.254.0/24"}}]})"));
  }
  // From now on pods get the recorder's network alone.
  void UseRecorder() const {
    Write(Path("conf/00-recorder.conflist"),
          R"({"cniVersion":"1.1.0","name":"recorder","plugins":[
              {"type":"recorder","capabilities":{"ipRanges":true}}]})");
  }
  absl::Status UseSecond() {
    RETURN_IF_ERROR(environment().EditConfig(
        "[crisp.network]\n", "[crisp.network]\ncni_additional_networks = [\"second\"]\n"));
    RETURN_IF_ERROR(daemon().Stop().status());
    return daemon().Start();
  }
  void Touch(std::string_view name) const { Write(Path(name), ""); }
  void Remove(std::string_view name) const { EXPECT_OK(base::RemoveFile(Path(name))); }
  std::vector<std::string> Calls() const {
    return absl::StrSplit(base::ReadFile(Path("bin/calls")).value_or(""), '\n', absl::SkipEmpty());
  }
  base::Json Input(std::string_view command) const {
    const auto text = base::ReadFile(Path(base::StrCat("bin/input-", command)));
    return base::ParseJson(text.value_or("")).value_or(base::Json());
  }
  std::vector<std::string> SecondAddresses() const {
    std::vector<std::string> found;
    for (const std::string& name :
         base::ListDirectory(Path("ipam/second")).value_or(std::vector<std::string>())) {
      if (absl::StartsWith(name, "10.")) found.push_back(name);
    }
    return found;
  }
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
  std::pair<bool, std::string> NetworkReady() const {
    const auto status = client().Call(&RuntimeStub::Status, cri::StatusRequest(), absl::Seconds(5));
    if (!status.ok()) return {false, status.status().ToString()};
    for (const cri::RuntimeCondition& condition : status->status().conditions()) {
      if (condition.type() == "NetworkReady") return {condition.status(), condition.message()};
    }
    return {false, "no such condition"};
  }
  absl::Status TellRanges(const std::string& ranges) const {
    cri::UpdateRuntimeConfigRequest request;
    request.mutable_runtime_config()->mutable_network_config()->set_pod_cidr(ranges);
    return client().Call(&RuntimeStub::UpdateRuntimeConfig, request).status();
  }
};

TEST_F(NetworkMultiTest, EachNetworkIsAnInterfaceAndTheDefaultGivesTheAddress) {
  ASSERT_OK(UseSecond());
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("both"));
  ASSERT_OK_AND_ASSIGN(const std::string container, RunContainer(pod, "c", "exec sleep 4321"));
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse links,
                       Exec(container, {"cat", "/proc/net/dev"}));
  EXPECT_THAT(links.stdout(), HasSubstr("eth0:"));
  EXPECT_THAT(links.stdout(), HasSubstr("eth1:"));
  EXPECT_EQ(SecondAddresses().size(), 1u);

  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(pod);
  request.set_verbose(true);
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatusResponse status,
                       client().Call(&RuntimeStub::PodSandboxStatus, request));
  EXPECT_THAT(status.status().network().ip(), Not(testing::StartsWith("10.254.254.")));
  EXPECT_THAT(status.status().network().additional_ips(), IsEmpty());
  ASSERT_OK_AND_ASSIGN(const base::Json info, base::ParseJson(status.info().at("info")));
  ASSERT_EQ(info["networks"].size(), 2u) << info;
  EXPECT_EQ(info["networks"][0]["interface"], "eth0");
  EXPECT_EQ(info["networks"][1]["network"], "second");
  EXPECT_THAT(info["networks"][1]["result"]["ips"][0]["address"].get<std::string>(),
              testing::StartsWith("10.254.254."));
  EXPECT_EQ(info["cniResult"], info["networks"][0]["result"]);

  // The detach of both is in the record: it needs no configuration any more.
  ASSERT_OK(daemon().Crash());
  Remove("conf/20-second.conflist");
  ASSERT_OK(daemon().Start());
  ASSERT_OK(RemovePod(pod));
  EXPECT_THAT(SecondAddresses(), IsEmpty());
  EXPECT_THAT(Leftovers(), IsEmpty());
  EXPECT_THAT(NetworkReady().second, HasSubstr("no CNI network second"));
}

TEST_F(NetworkMultiTest, AFailingSecondNetworkUndoesTheFirst) {
  ASSERT_OK(UseSecond());
  Write(Path("conf/20-second.conflist"), R"({"cniVersion":"1.0.0","name":"second","plugins":[
      {"type":"recorder"}]})");
  Touch("bin/fail-ADD");
  const absl::Status refused = RunPod("refused").status();
  EXPECT_THAT(refused.message(),
              HasSubstr("network second: plugin recorder: ADD: the recorder is ill"));
  EXPECT_THAT(Leftovers(), IsEmpty());
  ASSERT_EQ(Calls().size(), 2u);
  EXPECT_THAT(Calls()[1], testing::StartsWith("DEL "));
}

TEST_F(NetworkMultiTest, AnIllPluginMakesTheNetworkNotReadyInTheBackground) {
  UseRecorder();
  Touch("bin/fail-STATUS");
  EXPECT_TRUE(Eventually([&] { return !NetworkReady().first; }, absl::Seconds(40)));
  EXPECT_EQ(NetworkReady().second,
            "network recorder: plugin recorder: STATUS: the recorder is ill");
  EXPECT_OK(RunPod(HostPod("host")));
  Remove("bin/fail-STATUS");
  EXPECT_TRUE(Eventually([&] { return NetworkReady().first; }, absl::Seconds(40)));
  // One that hangs is no reason to wait, either: NetworkReady gives each answer 5 s.
  Touch("bin/hang-STATUS");
  const size_t before = Calls().size();
  EXPECT_TRUE(Eventually([&] { return NetworkReady().first && Calls().size() > before; },
                         absl::Seconds(40)));
  EXPECT_TRUE(NetworkReady().first) << NetworkReady().second;
}

TEST_F(NetworkMultiTest, GarbageIsCollectedOnceTheDaemonHasStarted) {
  UseRecorder();
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("stays"));
  EXPECT_OK(RunPod(HostPod("host")));
  ASSERT_OK(CrashAndRestart());
  ASSERT_TRUE(Eventually([&] { return Input("GC").is_object(); }));
  const base::Json expected = base::Json::array({{{"containerID", pod}, {"ifname", "eth0"}}});
  EXPECT_TRUE(Eventually([&] { return Input("GC")["cni.dev/valid-attachments"] == expected; }))
      << Input("GC");
  EXPECT_EQ(Input("GC")["cni.dev/attachments"], expected);
  EXPECT_OK(RemovePod(pod));
}

TEST_F(NetworkMultiTest, CollectionEndsADetachThatAlwaysFails) {
  UseRecorder();
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("stuck"));
  Touch("bin/fail-DEL");
  ASSERT_OK(RemovePod(pod));
  EXPECT_THAT(Leftovers(), Not(IsEmpty()));
  // It takes some failures before anybody thinks so: about half a minute.
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }, absl::Seconds(120)));
  EXPECT_THAT(Leftovers(), IsEmpty());
  EXPECT_EQ(Input("GC")["cni.dev/valid-attachments"], base::Json::array());
}

TEST_F(NetworkMultiTest, ADamagedRecordLosesNoDetach) {
  ASSERT_OK_AND_ASSIGN(const std::string known, RunPod("known"));
  ASSERT_OK_AND_ASSIGN(const std::string unknown, RunPod("unknown"));
  ASSERT_OK(daemon().Crash());
  // The first has a wrong checksum and can still be read, the second is nothing any more.
  const std::string records = base::StrCat(environment().Get("ROOT"), "/records/pods/");
  ASSERT_OK_AND_ASSIGN(std::string bytes, base::ReadFile(records + known, 1 << 20));
  bytes[12] = static_cast<char>(bytes[12] ^ 1);
  Write(records + known, bytes);
  Write(records + unknown, "nothing");
  ASSERT_OK(daemon().Start());
  EXPECT_TRUE(Eventually([&] { return Leftovers().size() == 1; }, absl::Seconds(40)));
  EXPECT_THAT(Leftovers(), testing::ElementsAre(HasSubstr("pods/corrupt")));
  // They are done with: the next start does not detach them again.
  ASSERT_OK(CrashAndRestart());
  EXPECT_THAT(Leftovers(), testing::ElementsAre(HasSubstr("pods/corrupt")));
}

TEST_F(NetworkMultiTest, TheNodesRangesReachPluginsAlsoAfterARestart) {
  UseRecorder();
  EXPECT_THAT(TellRanges("10.7.0.0/24,here"), HasCode(absl::StatusCode::kInvalidArgument));
  EXPECT_OK(TellRanges(""));
  ASSERT_OK(TellRanges("10.7.0.0/24,fd00:7::/64"));
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK(RunPod("ranged"));
  EXPECT_EQ(Input("ADD")["runtimeConfig"]["ipRanges"],
            *base::ParseJson(R"([[{"subnet":"10.7.0.0/24"}],[{"subnet":"fd00:7::/64"}]])"));
}

TEST_F(NetworkMultiTest, ManyPluginsThatHangStarveNoOtherPod) {
  constexpr int kHanging = 70;  // More than plugins may hold.
  ASSERT_OK_AND_ASSIGN(const std::string before, RunPod("before"));
  ASSERT_OK_AND_ASSIGN(const std::string host, RunPod(HostPod("host")));
  UseRecorder();
  Touch("bin/hang-ADD");
  std::vector<grpc::ClientContext> contexts(kHanging);
  std::vector<std::thread> callers;
  for (int i = 0; i < kHanging; ++i) {
    callers.emplace_back([&, i] {
      cri::RunPodSandboxResponse response;
      EXPECT_FALSE(client()
                       .runtime()
                       .RunPodSandbox(&contexts[static_cast<size_t>(i)],
                                      PodRequest(base::StrCat("hang-", i)), &response)
                       .ok());
    });
  }
  EXPECT_TRUE(Eventually([&] { return Calls().size() >= 64; }, absl::Seconds(50)));
  EXPECT_TRUE(NetworkReady().first || !NetworkReady().second.empty());
  EXPECT_OK(RunPod(HostPod("new")));
  EXPECT_OK(StopPod(before));
  EXPECT_OK(RemovePod(before));
  EXPECT_OK(RemovePod(host));
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (std::thread& caller : callers) caller.join();
  Remove("bin/hang-ADD");
}

}  // namespace
}  // namespace test
