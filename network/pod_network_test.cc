#include "network/pod_network.h"

#include <unistd.h>

#include <thread>

#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kResult[] = R"({"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/x"}],)"
                           R"("ips":[{"address":"10.5.0.9/16","interface":0}]})";

// Networks of shell scripts, each of which logs "COMMAND type" and its input before it acts.
class PodNetworkTest : public testing::Test {
 protected:
  // Adds a plugin that runs `script` with $CNI_COMMAND set; its answer is its output.
  void Plugin(const std::string& type, const std::string& script) {
    WriteTestFile(dir_ / "bin/" + type,
                  base::StrCat("#!/bin/sh\necho \"$CNI_COMMAND ", type, "\" >> ", dir_ / "log",
                               "\ncat > ", dir_ / type, ".$CNI_COMMAND\necho \"$CNI_NETNS\" > ",
                               dir_ / "netns", "\n", script, "\n"),
                  0755);
  }
  // A plugin that answers ADD with a result.
  void GoodPlugin(const std::string& type) {
    Plugin(type, base::StrCat("[ $CNI_COMMAND = DEL ] || echo '", kResult, "'"));
  }
  void Network(const std::vector<std::string>& types, const std::string& version = "1.0.0") {
    base::Json plugins = base::Json::array();
    for (const std::string& type : types) {
      plugins.push_back({{"type", type}});
    }
    WriteTestFile(dir_ / "conf/10.conflist",
                  base::DumpJson(
                      base::Json{{"cniVersion", version}, {"name", "pods"}, {"plugins", plugins}}));
  }
  std::string Plan() {
    const auto plan = network_.Prepare(pod_);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan.value_or("");
  }
  std::vector<std::string> Log() const { return ReadLines(dir_ / "log"); }
  base::Json Input(const std::string& file) const {
    return base::ParseJson(ReadTestFile(dir_ / file)).value_or(base::Json());
  }
  // A new network namespace at the path that the pod names.
  void PinNetns() {
    SKIP_UNLESS_ISOLATED();
    ASSERT_TRUE(
        PinNamespaces({.pins = {{"net", pod_.netns_path}}, .sysctls = {}, .hostname = ""}).ok());
  }

  TempDir dir_;
  const base::Launcher launcher_{"", ""};
  PodNetwork network_{NetworkConfig{.conf_dir = dir_ / "conf",
                                    .plugin_dirs = {dir_ / "bin"},
                                    .netns_dir = dir_ / "netns-dir",
                                    .attach_timeout = absl::Seconds(20),
                                    .detach_timeout = absl::Seconds(20)},
                      launcher_};
  PodAttachment pod_{.pod = base::PodId::Random(),
                     .pod_namespace = "shop",
                     .pod_name = "web",
                     .pod_uid = "u",
                     .netns_path = dir_ / "pod-netns"};
  const base::Context ctx_;
};

TEST_F(PodNetworkTest, AddRunsInOrderAndHandsResultsOn) {
  GoodPlugin("one");
  GoodPlugin("two");
  Network({"one", "two"});
  const auto attached = network_.Attach(ctx_, Plan());
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_THAT(Log(), ElementsAre("ADD one", "ADD two"));
  EXPECT_FALSE(Input("one.ADD").contains("prevResult"));
  EXPECT_EQ(Input("two.ADD")["prevResult"], *base::ParseJson(kResult));
  EXPECT_THAT(attached->ips, ElementsAre("10.5.0.9"));
  EXPECT_EQ(*base::ParseJson(attached->result), *base::ParseJson(kResult));
}

TEST_F(PodNetworkTest, DelRunsInReverseWithTheStoredResultAndPlan) {
  GoodPlugin("one");
  GoodPlugin("two");
  Network({"one", "two"});
  const std::string plan = Plan();
  Network({"other"});  // What changes later does not matter.
  PinNetns();
  ASSERT_TRUE(network_.Detach(ctx_, plan, kResult, pod_.netns_path).ok());
  EXPECT_THAT(Log(), ElementsAre("DEL two", "DEL one"));
  EXPECT_EQ(Input("one.DEL")["prevResult"], *base::ParseJson(kResult));
  EXPECT_EQ(Input("two.DEL")["prevResult"], *base::ParseJson(kResult));
  EXPECT_THAT(ReadLines(dir_ / "netns"), ElementsAre(pod_.netns_path));
}

TEST_F(PodNetworkTest, DelWithoutNamespaceOrResultStillRuns) {
  GoodPlugin("one");
  Network({"one"});
  WriteTestFile(dir_ / "stale-pin", "");
  for (const std::string& path : {std::string(), dir_ / "none", dir_ / "stale-pin"}) {
    ASSERT_TRUE(network_.Detach(ctx_, Plan(), "", path).ok());
    EXPECT_THAT(ReadLines(dir_ / "netns"), ElementsAre(""));
    EXPECT_FALSE(Input("one.DEL").contains("prevResult"));
  }
}

TEST_F(PodNetworkTest, DelWithADamagedResultRunsWithoutIt) {
  GoodPlugin("one");
  Network({"one"});
  ASSERT_TRUE(network_.Detach(ctx_, Plan(), "{cut", "").ok());
  EXPECT_FALSE(Input("one.DEL").contains("prevResult"));
}

TEST_F(PodNetworkTest, DelBeforeVersion04HasNoPreviousResult) {
  GoodPlugin("one");
  Network({"one"}, "0.3.1");
  ASSERT_TRUE(network_.Detach(ctx_, Plan(), kResult, "").ok());
  EXPECT_FALSE(Input("one.DEL").contains("prevResult"));
}

TEST_F(PodNetworkTest, UnknownContainerIsDetached) {
  Plugin("one", R"(echo '{"code":3,"msg":"container unknown"}'; exit 1)");
  Network({"one"});
  EXPECT_TRUE(network_.Detach(ctx_, Plan(), "", "").ok());
}

TEST_F(PodNetworkTest, FailedDelKeepsWhatEarlierPluginsHold) {
  GoodPlugin("one");
  Plugin("two", R"(echo '{"code":100,"msg":"no way"}'; exit 1)");
  Network({"one", "two"});
  const std::string plan = Plan();
  const absl::Status status = network_.Detach(ctx_, plan, "", "");
  EXPECT_EQ(status.message(), "network pods: plugin two: DEL: no way");
  EXPECT_THAT(Log(), ElementsAre("DEL two"));
  GoodPlugin("two");
  EXPECT_TRUE(network_.Detach(ctx_, plan, "", "").ok());
  EXPECT_TRUE(network_.Detach(ctx_, plan, "", "").ok());
}

TEST_F(PodNetworkTest, FailedAddIsUndoneInReverse) {
  GoodPlugin("one");
  Plugin("two", R"([ $CNI_COMMAND = DEL ] && exit; echo '{"code":100,"msg":"full"}'; exit 1)");
  GoodPlugin("three");
  Network({"one", "two", "three"});
  absl::Status cleanup = absl::UnknownError("unset");
  const auto attached = network_.Attach(ctx_, Plan(), &cleanup);
  EXPECT_EQ(attached.status().code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(attached.status().message(), "network pods: plugin two: ADD: full");
  EXPECT_THAT(Log(), ElementsAre("ADD one", "ADD two", "DEL two", "DEL one"));
  EXPECT_TRUE(cleanup.ok()) << cleanup;
}

TEST_F(PodNetworkTest, CleanupThatFailsGoesOnAndIsOwed) {
  GoodPlugin("one");
  Plugin("two", "echo broken; exit 1");
  Network({"one", "two"});
  absl::Status cleanup;
  EXPECT_FALSE(network_.Attach(ctx_, Plan(), &cleanup).ok());
  EXPECT_EQ(cleanup.message(), "network pods: plugin two: DEL: exit code 1: broken");
  EXPECT_THAT(Log(), ElementsAre("ADD one", "ADD two", "DEL two", "DEL one"));
}

TEST_F(PodNetworkTest, TryLaterIsUnavailable) {
  Plugin("one", R"([ $CNI_COMMAND = DEL ] && exit; echo '{"code":11,"msg":"wait"}'; exit 1)");
  Network({"one"});
  EXPECT_TRUE(absl::IsUnavailable(network_.Attach(ctx_, Plan()).status()));
}

TEST_F(PodNetworkTest, ResultsThatAreNoneFailTheAttachAndAreUndone) {
  for (const char* output :
       {"", "hello", "{}", R"({"ips":[]})", R"({"ips":[{"address":"nonsense"}]})",
        R"({"interfaces":[{"name":"eth1"}],"ips":[{"address":"10.0.0.1/8","interface":0}]})"}) {
    unlink((dir_ / "log").c_str());
    Plugin("one", base::StrCat("[ $CNI_COMMAND = DEL ] || echo '", output, "'"));
    Network({"one"});
    const auto attached = network_.Attach(ctx_, Plan());
    EXPECT_EQ(attached.status().code(), absl::StatusCode::kUnknown) << output;
    EXPECT_THAT(Log(), ElementsAre("ADD one", "DEL one")) << output;
  }
}

TEST_F(PodNetworkTest, MissingSecondBinaryUndoesTheFirst) {
  GoodPlugin("one");
  Network({"one", "absent"});
  absl::Status cleanup;
  const auto attached = network_.Attach(ctx_, Plan(), &cleanup);
  EXPECT_TRUE(absl::IsFailedPrecondition(attached.status()));
  EXPECT_THAT(std::string(attached.status().message()), HasSubstr("no CNI plugin binary absent"));
  EXPECT_THAT(Log(), ElementsAre("ADD one", "DEL one"));
  EXPECT_TRUE(cleanup.ok()) << cleanup;
}

TEST_F(PodNetworkTest, CancelledAttachIsUndone) {
  GoodPlugin("one");
  Plugin("two", "[ $CNI_COMMAND = DEL ] || exec sleep 1000");
  Network({"one", "two"});
  const auto cancellation = std::make_shared<base::Cancellation>();
  std::thread canceller([&] {
    EXPECT_TRUE(Eventually([&] { return Log().size() >= 2; }));
    cancellation->Cancel();
  });
  absl::Status cleanup;
  const auto attached = network_.Attach(
      base::Context(base::SteadyTime::InfiniteFuture(), cancellation), Plan(), &cleanup);
  canceller.join();
  EXPECT_TRUE(absl::IsCancelled(attached.status())) << attached.status();
  EXPECT_THAT(Log(), ElementsAre("ADD one", "ADD two", "DEL two", "DEL one"));
  EXPECT_TRUE(cleanup.ok()) << cleanup;
}

TEST_F(PodNetworkTest, OperationsOfOnePodWaitAndOthersDoNot) {
  // The first pod's ADD ends only once the second pod's has run.
  Plugin("one", base::StrCat("[ $CNI_COMMAND = DEL ] && exit\n[ -e ", dir_ / "slow", " ] && { rm ",
                             dir_ / "slow", "; touch ", dir_ / "entered", "; while [ ! -e ",
                             dir_ / "go", " ]; do sleep 0.01; done; }\necho '", kResult, "'"));
  Network({"one"});
  const std::string plan = Plan();
  WriteTestFile(dir_ / "slow", "");
  std::thread first([&] { EXPECT_TRUE(network_.Attach(ctx_, plan).ok()); });
  ASSERT_TRUE(Eventually([&] { return base::Exists(dir_ / "entered"); }));

  const absl::Status same =
      network_.Detach(base::Context::Detached(absl::Milliseconds(50)), plan, "", "");
  EXPECT_TRUE(absl::IsDeadlineExceeded(same)) << same;
  pod_.pod = base::PodId::Random();
  EXPECT_TRUE(network_.Attach(ctx_, Plan()).ok());
  WriteTestFile(dir_ / "go", "");
  first.join();
  EXPECT_TRUE(network_.Detach(ctx_, plan, "", "").ok());
  EXPECT_THAT(Log(), ElementsAre("ADD one", "ADD one", "DEL one"));
}

TEST_F(PodNetworkTest, ReadyTellsWhatIsMissing) {
  EXPECT_TRUE(absl::IsFailedPrecondition(network_.Ready()));
  EXPECT_EQ(network_.Ready().message(), "no CNI configuration in " + (dir_ / "conf"));
  EXPECT_EQ(network_.Prepare(pod_).status(), network_.Ready());
  Network({"one"});
  EXPECT_EQ(network_.Ready().message(),
            "network pods: no CNI plugin binary one in " + (dir_ / "bin"));
  GoodPlugin("one");
  EXPECT_TRUE(network_.Ready().ok()) << network_.Ready();
  EXPECT_THAT(Log(), IsEmpty());
}

TEST_F(PodNetworkTest, DamagedPlanIsRefusedAndRunsNothing) {
  absl::Status cleanup;
  EXPECT_TRUE(absl::IsInvalidArgument(network_.Attach(ctx_, "{", &cleanup).status()));
  EXPECT_TRUE(cleanup.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(network_.Detach(ctx_, "{", "", "")));
}

}  // namespace
}  // namespace network
