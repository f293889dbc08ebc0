#include "network/network_plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace network {
namespace {

using ::testing::HasSubstr;

PodAttachment Pod() {
  PodAttachment pod{.pod = base::PodId::Random()};
  pod.pod_namespace = "shop";
  pod.pod_name = "web-0";
  pod.pod_uid = "u-1";
  pod.netns_path = "/run/netns/crisp-x";
  return pod;
}

CniNetwork Network(const std::string& plugins) {
  const auto network =
      ParseCniList(R"({"cniVersion":"1.0.0","name":"pods","plugins":[)" + plugins + "]}");
  EXPECT_TRUE(network.ok()) << network.status();
  return *network;
}

CniNetwork EverythingAsked() {
  return Network(R"({"type":"a","capabilities":{"portMappings":true,"bandwidth":true,"dns":true,
      "ipRanges":true,"aliases":true,"cgroupPath":true,"io.kubernetes.cri.pod-annotations":true}})");
}

TEST(NetworkPlanTest, ArgumentsNameThePod) {
  const PodAttachment pod = Pod();
  const auto plan = MakePlan(pod, EverythingAsked());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->parameters.container_id, pod.pod.str());
  EXPECT_EQ(plan->parameters.netns, "/run/netns/crisp-x");
  EXPECT_EQ(plan->parameters.ifname, "eth0");
  EXPECT_EQ(plan->parameters.args,
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;"
            "K8S_POD_INFRA_CONTAINER_ID=" +
                pod.pod.str() + ";K8S_POD_UID=u-1");
}

TEST(NetworkPlanTest, NamesThatForgeArgumentsAreRefused) {
  for (const char* name : {"a;K8S_POD_UID=x", "a=b", "a\nb"}) {
    PodAttachment pod = Pod();
    pod.pod_name = name;
    EXPECT_TRUE(absl::IsInvalidArgument(MakePlan(pod, EverythingAsked()).status())) << name;
  }
}

TEST(NetworkPlanTest, RuntimeConfigHoldsWhatThePodHas) {
  PodAttachment pod = Pod();
  pod.port_mappings = {
      {.host_port = 8080, .container_port = 80, .protocol = "TCP", .host_ip = ""},
      {.host_port = 0, .container_port = 81, .protocol = "tcp", .host_ip = ""},
      {.host_port = 53, .container_port = 53, .protocol = "udp", .host_ip = "127.0.0.1"}};
  pod.annotations = {{"kubernetes.io/ingress-bandwidth", "10M"}};
  pod.dns_servers = {"10.0.0.10"};
  pod.dns_searches = {"svc"};
  pod.cgroup_path = "/kubepods/x";
  pod.hostname = "web";
  pod.node_ranges = {"10.5.0.0/24", "fd00:5::/64"};
  const auto plan = MakePlan(pod, EverythingAsked());
  ASSERT_TRUE(plan.ok()) << plan.status();
  const base::Json expected = *base::ParseJson(R"({
      "portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"},
                      {"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"}],
      "bandwidth":{"ingressRate":10000000,"ingressBurst":2147483647},
      "dns":{"servers":["10.0.0.10"],"searches":["svc"]},
      "cgroupPath":"/kubepods/x",
      "aliases":["web-0","web"],
      "ipRanges":[[{"subnet":"10.5.0.0/24"}],[{"subnet":"fd00:5::/64"}]],
      "io.kubernetes.cri.pod-annotations":{"kubernetes.io/ingress-bandwidth":"10M"}})");
  EXPECT_EQ(PluginInput(*plan, 0, base::Json())["runtimeConfig"], expected);
}

TEST(NetworkPlanTest, PluginGetsOnlyWhatItAsksFor) {
  PodAttachment pod = Pod();
  pod.annotations = {{"secret", "x"}};
  pod.dns_servers = {"10.0.0.10"};
  const auto plan = MakePlan(pod, Network(R"({"type":"a","capabilities":{"dns":true}},
                                             {"type":"b","capabilities":{"dns":false}})"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(PluginInput(*plan, 0, base::Json())["runtimeConfig"].size(), 1u);
  EXPECT_FALSE(PluginInput(*plan, 1, base::Json()).contains("runtimeConfig"));
  EXPECT_THAT(SerialisePlans({*plan}), ::testing::Not(HasSubstr("secret")));
}

TEST(NetworkPlanTest, NothingToSayLeavesRuntimeConfigOut) {
  PodAttachment pod = Pod();
  pod.pod_name.clear();
  const auto plan = MakePlan(pod, EverythingAsked());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(PluginInput(*plan, 0, base::Json()).contains("runtimeConfig"));
}

TEST(NetworkPlanTest, InputIsThePluginsObjectUnderTheListsName) {
  const auto plan =
      MakePlan(Pod(), Network(R"({"type":"a","name":"other","cniVersion":"0.1.0","mtu":7,
                                  "capabilities":{},"cni.dev/attachments":[],"prevResult":{}})"));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(PluginInput(*plan, 0, base::Json()),
            *base::ParseJson(R"({"type":"a","name":"pods","cniVersion":"1.0.0","mtu":7})"));
  const base::Json previous = {{"ips", base::Json::array()}};
  EXPECT_EQ(PluginInput(*plan, 0, previous)["prevResult"], previous);
}

TEST(NetworkPlanTest, PlanSurvivesStorage) {
  PodAttachment pod = Pod();
  pod.dns_servers = {"10.0.0.10"};
  const auto plan = MakePlan(pod, EverythingAsked());
  ASSERT_TRUE(plan.ok()) << plan.status();
  const std::string bytes = SerialisePlans({*plan});
  const auto again = ParsePlans(bytes);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(SerialisePlans(*again), bytes);
  EXPECT_EQ(PluginInput(again->front(), 0, base::Json()), PluginInput(*plan, 0, base::Json()));
}

TEST(NetworkPlanTest, PortsAndTheNodesRangesBelongToTheFirstInterface) {
  PodAttachment pod = Pod();
  pod.port_mappings = {{.host_port = 8080, .container_port = 80, .protocol = "", .host_ip = ""}};
  pod.node_ranges = {"10.5.0.0/24"};
  pod.dns_servers = {"10.0.0.10"};
  const auto plan = MakePlan(pod, EverythingAsked(), 2);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->parameters.ifname, "eth2");
  const base::Json input = PluginInput(*plan, 0, base::Json());
  EXPECT_FALSE(input["runtimeConfig"].contains("portMappings"));
  EXPECT_FALSE(input["runtimeConfig"].contains("ipRanges"));
  EXPECT_TRUE(input["runtimeConfig"].contains("dns"));
}

TEST(NetworkPlanTest, SeveralPlansAndTheirResultsSurviveStorage) {
  const std::vector<NetworkPlan> plans = {*MakePlan(Pod(), EverythingAsked(), 0),
                                          *MakePlan(Pod(), EverythingAsked(), 1)};
  const std::string bytes = SerialisePlans(plans);
  const auto again = ParsePlans(bytes);
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_EQ(again->size(), 2u);
  EXPECT_EQ(again->back().parameters.ifname, "eth1");
  EXPECT_EQ(SerialisePlans(*again), bytes);
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParsePlans(bytes.substr(0, cut)).status())) << cut;
  }
  const base::Json one = {{"cniVersion", "1.0.0"}, {"ips", base::Json::array()}};
  const base::Json two = {{"cniVersion", "1.0.0"}};
  const std::vector<base::Json> results = {one, two};
  EXPECT_EQ(ParseResults(SerialiseResults(results), plans), results);
  EXPECT_EQ(DescribeAttachments(bytes, SerialiseResults(results))[1],
            *base::ParseJson(R"({"network":"pods","interface":"eth1",
                                 "result":{"cniVersion":"1.0.0"}})"));
}

TEST(NetworkPlanTest, LostResultsAreNullForEachPlan) {
  const std::vector<NetworkPlan> plans = {*MakePlan(Pod(), EverythingAsked(), 0),
                                          *MakePlan(Pod(), EverythingAsked(), 1)};
  const base::Json one = {{"cniVersion", "1.0.0"}};
  for (const char* bytes : {"", "{cut", "7", "[]", "[null,null]", "[1,[]]"}) {
    EXPECT_EQ(ParseResults(bytes, plans), std::vector<base::Json>(2)) << bytes;
  }
  // The result of a single network, as it always was.
  EXPECT_EQ(ParseResults(SerialiseResults({one}), {plans[0]}), std::vector<base::Json>{one});
}

TEST(NetworkPlanTest, DamagedPlansAreRefused) {
  const std::string whole = SerialisePlans({*MakePlan(Pod(), EverythingAsked())});
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParsePlans(whole.substr(0, cut)).status())) << cut;
  }
  for (const char* text :
       {"{}", "[]", R"({"version":2})", R"({"version":2,"plans":[]})",
        R"({"version":2,"plans":[7]})", R"({"version":3})", R"({"version":1,"containerId":"x"})"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParsePlans(text).status())) << text;
  }
}

TEST(NetworkPlanTest, WrongPortsAreRefused) {
  const PortMapping wrong[] = {
      {.host_port = 70000, .container_port = 80, .protocol = "", .host_ip = ""},
      {.host_port = -1, .container_port = 80, .protocol = "", .host_ip = ""},
      {.host_port = 80, .container_port = 0, .protocol = "", .host_ip = ""},
      {.host_port = 80, .container_port = 80, .protocol = "icmp", .host_ip = ""}};
  for (const PortMapping& mapping : wrong) {
    PodAttachment pod = Pod();
    pod.port_mappings = {mapping};
    EXPECT_TRUE(absl::IsInvalidArgument(MakePlan(pod, EverythingAsked()).status()));
  }
}

TEST(BandwidthTest, QuantitiesAreBitsPerSecondRoundedUp) {
  const std::pair<const char*, int64_t> cases[] = {{"1k", 1000},
                                                   {"10M", 10'000'000},
                                                   {"1.5Gi", 1'610'612'736},
                                                   {"2e6", 2'000'000},
                                                   {"2E6", 2'000'000},
                                                   {"1P", 1'000'000'000'000'000},
                                                   {"5000", 5000},
                                                   {"1000000001m", 1000001},
                                                   {".5M", 500'000},
                                                   {"1.0001k", 1001},
                                                   {"1000.", 1000},
                                                   {"1e+3", 1000},
                                                   {"10000e-1", 1000},
                                                   {"0.000001P", 1'000'000'000}};
  for (const auto& [text, value] : cases) {
    const auto parsed = ParseBandwidth(text);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, value) << text;
  }
}

TEST(BandwidthTest, OtherTextIsRefused) {
  for (const char* text :
       {"", "M", ".", "10m", "999", "1.1P", "2E", "-5M", "10 M", "10MB", "1e", "1e999", "1..5M",
        "9999999999999999999", "999999999999999999Ei", "0x10", "ten"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseBandwidth(text).status())) << text;
  }
}

TEST(BandwidthTest, WrongAnnotationFailsThePlan) {
  PodAttachment pod = Pod();
  pod.annotations = {{"kubernetes.io/egress-bandwidth", "fast"}};
  const absl::Status status = MakePlan(pod, EverythingAsked()).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("kubernetes.io/egress-bandwidth"));
}

}  // namespace
}  // namespace network
