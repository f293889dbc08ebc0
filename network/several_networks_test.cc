// Pods of several networks, STATUS and GC, with plugins that record what they are told.
#include <thread>

#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/pod_network.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Every plugin is the same script: it logs "COMMAND network interface", keeps its input and its
// environment, and does what files beside it say: NAME.COMMAND.error is its error,
// NAME.COMMAND.hang makes it hang. An address is its network's number.
constexpr char kPlugin[] = R"(#!/bin/sh
here=$(dirname "$0")
self=$(basename "$0")
cat > "$here/$self.$CNI_COMMAND.input"
env > "$here/$self.$CNI_COMMAND.env"
echo "$CNI_COMMAND $self $CNI_IFNAME" >> "$here/log"
[ -e "$here/$self.$CNI_COMMAND.hang" ] && exec sleep 1000
[ -e "$here/$self.$CNI_COMMAND.error" ] && { cat "$here/$self.$CNI_COMMAND.error"; exit 1; }
[ $CNI_COMMAND = ADD ] && echo '{"cniVersion":"1.1.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"/x"}],
  "ips":[{"address":"10.0.0.'$(printf %s "$self" | tail -c1)'/8","interface":0}]}'
exit 0
)";

class SeveralNetworksTest : public testing::Test {
 protected:
  SeveralNetworksTest() {
    List("10", "pods", {"plugin-1"});
    List("20", "storage", {"plugin-2"});
    List("30", "backup", {"plugin-3"});
  }
  void List(const std::string& file, const std::string& name, const std::vector<std::string>& types,
            const std::string& more = "") {
    base::Json plugins = base::Json::array();
    for (const std::string& type : types) {
      WriteTestFile(dir_ / "bin/" + type, kPlugin, 0755);
      plugins.push_back({{"type", type}, {"capabilities", {{"portMappings", true}}}});
    }
    WriteTestFile(dir_ / "conf/" + file + ".conflist",
                  base::StrCat(R"({"cniVersion":"1.1.0","name":")", name, R"(",)", more,
                               R"("plugins":)", base::DumpJson(plugins), "}"));
  }
  void Error(const std::string& plugin_and_command, int code, const std::string& message) {
    WriteTestFile(dir_ / "bin/" + plugin_and_command + ".error",
                  base::DumpJson(base::Json{{"code", code}, {"msg", message}}));
  }
  void NoError(const std::string& plugin_and_command) {
    base::RemoveFile(dir_ / "bin/" + plugin_and_command + ".error").IgnoreError();
  }
  NetworkConfig Config(std::vector<std::string> additional) const {
    return {.conf_dir = dir_ / "conf",
            .plugin_dirs = {dir_ / "bin"},
            .additional_networks = std::move(additional),
            .attach_timeout = absl::Seconds(20),
            .detach_timeout = absl::Seconds(20),
            .status_timing = {.period = absl::Milliseconds(1), .timeout = absl::Seconds(20)}};
  }
  std::vector<std::string> Log() const { return ReadLines(dir_ / "bin/log"); }
  base::Json Input(const std::string& plugin_and_command) const {
    return base::ParseJson(ReadTestFile(dir_ / "bin/" + plugin_and_command + ".input"))
        .value_or(base::Json());
  }
  std::string Environment(const std::string& plugin_and_command) const {
    return ReadTestFile(dir_ / "bin/" + plugin_and_command + ".env");
  }

  TempDir dir_;
  const base::Launcher launcher_{"", ""};
  PodNetwork network_{Config({"storage", "backup"}), launcher_};
  const PodAttachment pod_{.pod = base::PodId::Random(),
                           .pod_namespace = "shop",
                           .pod_name = "web",
                           .pod_uid = "u",
                           .netns_path = dir_ / "netns",
                           .port_mappings = {{.host_port = 80, .container_port = 80}}};
  const base::Context ctx_;
};

TEST_F(SeveralNetworksTest, InterfacesAreNumberedAndDetachedInReverse) {
  const auto plan = network_.Prepare(pod_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto attached = network_.Attach(ctx_, *plan);
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_THAT(attached->ips, ElementsAre("10.0.0.1"));
  EXPECT_THAT(Log(), ElementsAre("ADD plugin-1 eth0", "ADD plugin-2 eth1", "ADD plugin-3 eth2"));
  EXPECT_TRUE(Input("plugin-1.ADD").contains("runtimeConfig"));
  EXPECT_FALSE(Input("plugin-2.ADD").contains("runtimeConfig"));
  EXPECT_FALSE(Input("plugin-2.ADD").contains("prevResult"));
  const base::Json described = DescribeAttachments(*plan, attached->result);
  ASSERT_EQ(described.size(), 3u);
  EXPECT_EQ(described[2]["network"], "backup");
  EXPECT_EQ(described[2]["interface"], "eth2");
  EXPECT_EQ(described[2]["result"]["ips"][0]["address"], "10.0.0.3/8");

  ASSERT_TRUE(network_.Detach(ctx_, *plan, attached->result, "").ok());
  std::vector<std::string> log = Log();
  log.erase(log.begin(), log.begin() + 3);
  EXPECT_THAT(log, ElementsAre("DEL plugin-3 eth2", "DEL plugin-2 eth1", "DEL plugin-1 eth0"));
  EXPECT_EQ(Input("plugin-2.DEL")["prevResult"]["ips"][0]["address"], "10.0.0.2/8");
}

TEST_F(SeveralNetworksTest, FailingLaterNetworkUndoesTheFirst) {
  Error("plugin-2.ADD", 100, "no storage");
  absl::Status cleanup = absl::UnknownError("unset");
  const auto attached = network_.Attach(ctx_, *network_.Prepare(pod_), &cleanup);
  EXPECT_EQ(attached.status().message(), "network storage: plugin plugin-2: ADD: no storage");
  EXPECT_TRUE(cleanup.ok()) << cleanup;
  EXPECT_THAT(Log(), ElementsAre("ADD plugin-1 eth0", "ADD plugin-2 eth1", "DEL plugin-2 eth1",
                                 "DEL plugin-1 eth0"));
  // The first came through: it gets its result back.
  EXPECT_TRUE(Input("plugin-1.DEL").contains("prevResult"));
  EXPECT_FALSE(Input("plugin-2.DEL").contains("prevResult"));
}

TEST_F(SeveralNetworksTest, NetworkThatKeepsThePodDoesNotHoldTheOthers) {
  const std::string plan = *network_.Prepare(pod_);
  Error("plugin-3.DEL", 100, "not yet");
  EXPECT_EQ(network_.Detach(ctx_, plan, "", "").message(),
            "network backup: plugin plugin-3: DEL: not yet");
  EXPECT_THAT(Log(), ElementsAre("DEL plugin-3 eth2", "DEL plugin-2 eth1", "DEL plugin-1 eth0"));
}

TEST_F(SeveralNetworksTest, MissingNetworkIsNamedAndNothingRuns) {
  PodNetwork network(Config({"storage", "absent"}), launcher_);
  EXPECT_EQ(network.Ready().message(), "no CNI network absent in " + (dir_ / "conf"));
  EXPECT_TRUE(absl::IsFailedPrecondition(network.Prepare(pod_).status()));
  EXPECT_THAT(Log(), IsEmpty());
}

TEST_F(SeveralNetworksTest, MetaPluginGetsWhatItReads) {
  List("10", "pods", {"plugin-1"});
  PodNetwork network(Config({}), launcher_);
  ASSERT_TRUE(network.Attach(ctx_, *network.Prepare(pod_)).ok());
  const std::string environment = Environment("plugin-1.ADD");
  EXPECT_THAT(environment, HasSubstr("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;"
                                     "K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=" +
                                     pod_.pod.str() + ";K8S_POD_UID=u\n"));
  EXPECT_THAT(environment, HasSubstr("CNI_NETNS=" + pod_.netns_path + "\n"));
  EXPECT_THAT(environment, HasSubstr("CNI_PATH=" + (dir_ / "bin") + "\n"));
}

TEST_F(SeveralNetworksTest, StatusOfAnyPluginMakesTheNetworkNotReady) {
  EXPECT_TRUE(network_.Ready().ok()) << "nobody has been asked yet";
  Error("plugin-2.STATUS", 50, "the storage is away");
  EXPECT_TRUE(Eventually([&] { return !network_.Ready().ok(); }));
  EXPECT_EQ(network_.Ready().message(),
            "network storage: plugin plugin-2: STATUS: the storage is away");
  EXPECT_TRUE(absl::IsFailedPrecondition(network_.Ready()));
  Error("plugin-2.STATUS", 51, "half away");
  EXPECT_TRUE(Eventually([&] {
    return network_.Ready().message() ==
           "network storage: plugin plugin-2: STATUS: half away (pods that are attached may have "
           "lost connections)";
  }));
  NoError("plugin-2.STATUS");
  EXPECT_TRUE(Eventually([&] { return network_.Ready().ok(); }));
  EXPECT_THAT(Environment("plugin-2.STATUS"), Not(HasSubstr("CNI_CONTAINERID")));
  EXPECT_THAT(Environment("plugin-2.STATUS"), Not(HasSubstr("CNI_NETNS")));
  EXPECT_EQ(Input("plugin-2.STATUS"),
            *base::ParseJson(R"({"cniVersion":"1.1.0","name":"storage","type":"plugin-2"})"));
}

TEST_F(SeveralNetworksTest, StatusThatHangsHoldsNobody) {
  WriteTestFile(dir_ / "bin/plugin-1.STATUS.hang", "");
  // Neither this nor the end of the network waits for the plugin.
  EXPECT_TRUE(network_.Ready().ok());
  EXPECT_TRUE(Eventually([&] { return !Log().empty(); }));
  EXPECT_TRUE(network_.Ready().ok());
  EXPECT_THAT(Log(), ElementsAre("STATUS plugin-1 "));
}

TEST_F(SeveralNetworksTest, NetworksBefore11AreNotAsked) {
  WriteTestFile(dir_ / "conf/10.conflist",
                R"({"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"plugin-1"}]})");
  PodNetwork network(Config({}), launcher_);
  EXPECT_TRUE(network.Ready().ok());
  const auto clean =
      network.CollectGarbage(ctx_, {}, [] { return std::vector<ValidAttachment>(); });
  ASSERT_TRUE(clean.ok()) << clean.status();
  EXPECT_THAT(*clean, IsEmpty());
  EXPECT_THAT(Log(), IsEmpty());
}

TEST_F(SeveralNetworksTest, GarbageCollectionNamesWhatIsValid) {
  List("20", "storage", {"plugin-2"}, R"("disableGC":true,)");
  List("30", "backup", {"plugin-3", "plugin-4"});
  Error("plugin-3.GC", 100, "cannot");
  const std::string old_plan = *network_.Prepare(pod_);
  List("20", "renamed", {"plugin-2"});
  PodNetwork network(Config({"backup"}), launcher_);
  const auto clean = network.CollectGarbage(ctx_, {old_plan, "{damaged"}, [] {
    return std::vector<ValidAttachment>{{.container_id = "c1", .ifname = "eth0"}};
  });
  ASSERT_TRUE(clean.ok()) << clean.status();
  // What fails is gone on after; what forbids it is left alone, in the plan of a pod, too.
  EXPECT_THAT(Log(), ElementsAre("GC plugin-1 ", "GC plugin-3 ", "GC plugin-4 "));
  EXPECT_THAT(*clean, ElementsAre("pods"));
  EXPECT_FALSE(AllNetworksIn(old_plan, *clean));
  EXPECT_TRUE(AllNetworksIn(old_plan, {"pods", "storage", "backup"}));
  const base::Json attachments = *base::ParseJson(R"([{"containerID":"c1","ifname":"eth0"}])");
  EXPECT_EQ(Input("plugin-1.GC"), (base::Json{{"cniVersion", "1.1.0"},
                                              {"name", "pods"},
                                              {"type", "plugin-1"},
                                              {"cni.dev/valid-attachments", attachments},
                                              {"cni.dev/attachments", attachments}}));
  EXPECT_THAT(Environment("plugin-1.GC"), Not(HasSubstr("CNI_CONTAINERID")));
}

TEST_F(SeveralNetworksTest, UnknownAttachmentsEndTheCollection) {
  const auto clean =
      network_.CollectGarbage(ctx_, {}, []() -> absl::StatusOr<std::vector<ValidAttachment>> {
        return absl::InvalidArgumentError("a plan of another version");
      });
  EXPECT_TRUE(absl::IsInvalidArgument(clean.status()));
  EXPECT_THAT(Log(), IsEmpty());
}

TEST_F(SeveralNetworksTest, CollectionWaitsForAnAttach) {
  WriteTestFile(dir_ / "bin/plugin-1.ADD.hang", "");
  const auto cancellation = std::make_shared<base::Cancellation>();
  std::thread attach([&] {
    EXPECT_FALSE(
        network_
            .Attach(base::Context(base::SteadyTime::InfiniteFuture(), cancellation), *network_.Prepare(pod_))
            .ok());
  });
  EXPECT_TRUE(Eventually([&] { return !Log().empty(); }));
  const auto valid = [] { return std::vector<ValidAttachment>(); };
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      network_.CollectGarbage(base::Context::Detached(absl::Milliseconds(50)), {}, valid)
          .status()));
  EXPECT_THAT(Log(), Not(Contains(HasSubstr("GC"))));
  cancellation->Cancel();
  attach.join();
  EXPECT_TRUE(network_.CollectGarbage(ctx_, {}, valid).ok());
  EXPECT_THAT(Log(), Contains("GC plugin-1 "));
}

}  // namespace
}  // namespace network
