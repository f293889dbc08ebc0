// The plugins that Debian packages, against the kernel, in namespaces of the test's own.
#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/files.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/pod_network.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kPluginDirectory[] = "/usr/lib/cni";

std::string Output(std::vector<std::string> argv) {
  const auto result = base::RunCommand(base::Context::Detached(absl::Seconds(20)),
                                       {.argv = std::move(argv), .env = {}});
  return result.ok() ? result->out + result->err : std::string(result.status().message());
}

// Everything the plugins may have left in the packet filter, without what they keep for all pods:
// rules that name a pod, its addresses or its ports.
std::string Rules() {
  return Output({"/usr/sbin/iptables-save"}) + Output({"/usr/sbin/ip6tables-save"});
}

bool HasIpv6() { return base::Exists("/proc/sys/net/ipv6/conf/all"); }

std::string NatRules() { return Output({"/usr/sbin/iptables", "-t", "nat", "-S"}); }

sockaddr_in Address(const std::string& ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, ip.c_str(), &address.sin_addr);
  return address;
}

bool Connects(const base::UniqueFd& client, const sockaddr* address, socklen_t address_size) {
  if (connect(client.get(), address, address_size) != 0 && errno != EINPROGRESS) {
    return false;
  }
  pollfd ready = {.fd = client.get(), .events = POLLOUT, .revents = 0};
  int error = 0;
  socklen_t size = sizeof(error);
  return poll(&ready, 1, 2000) == 1 &&
         getsockopt(client.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

bool CanConnect(const std::string& ip, uint16_t port) {
  const base::UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in address = Address(ip, port);
  return Connects(client, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

sockaddr_in6 Address6(const std::string& ip, uint16_t port) {
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  inet_pton(AF_INET6, ip.c_str(), &address.sin6_addr);
  return address;
}

// A bridge that is new looks for others with its address first (RFC 4862): ask again for a while.
bool CanConnect6(const std::string& ip, uint16_t port) {
  const base::UniqueFd client(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in6 address = Address6(ip, port);
  return Connects(client, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

class RealPluginsTest : public testing::Test {
 protected:
  void SetUp() override {
    SKIP_UNLESS_ISOLATED();
    for (const char* name : {"bridge", "host-local", "portmap", "bandwidth"}) {
      if (!base::Exists(base::StrCat(kPluginDirectory, "/", name))) {
        GTEST_SKIP() << "SKIP: " << kPluginDirectory << "/" << name;
      }
    }
    if (!base::Exists("/usr/sbin/iptables")) {
      GTEST_SKIP() << "SKIP: iptables";
    }
    WriteTestFile(dir_ / "conf/10.conflist",
                  base::StrCat(R"({"cniVersion":"1.0.0","name":"pods","plugins":[
        {"type":"bridge","bridge":"crisp-test0","isGateway":true,"ipMasq":true,
         "ipam":{"type":"host-local","dataDir":")",
                               dir_ / "leases", R"(","routes":[{"dst":"0.0.0.0/0"}],
                 "ranges":[[{"subnet":"10.87.0.0/24"}],[{"subnet":"fd00:87::/64"}]]}},
        {"type":"portmap","capabilities":{"portMappings":true}},
        {"type":"bandwidth","capabilities":{"bandwidth":true}}]})"));
    pod_.netns_path = dir_ / "netns";
    pod_.port_mappings = {
        {.host_port = 8087, .container_port = 80, .protocol = "TCP", .host_ip = ""}};
    pod_.annotations = {{"kubernetes.io/egress-bandwidth", "10M"}};
    ASSERT_TRUE(
        PinNamespaces({.pins = {{"net", pod_.netns_path}}, .sysctls = {}, .hostname = ""}).ok());
  }
  void TearDown() override { Output({"/usr/sbin/ip", "link", "del", "crisp-test0"}); }

  // Another list in the place of the fixture's, for another PodNetwork.
  NetworkConfig ConfigWith(const std::string& plugins, IpPreference preference) const {
    WriteTestFile(
        dir_ / "conf/10.conflist",
        base::StrCat(R"({"cniVersion":"1.0.0","name":"pods","plugins":[)", plugins, "]}"));
    return {
        .conf_dir = dir_ / "conf", .plugin_dirs = {kPluginDirectory}, .ip_preference = preference};
  }
  // A bridge with host-local and these ranges.
  std::string Bridge(const std::string& ranges) const {
    return base::StrCat(
        R"({"type":"bridge","bridge":"crisp-test0","isGateway":true,"ipMasq":true,"ipam":
           {"type":"host-local","dataDir":")",
        dir_ / "leases", R"(","ranges":[)", ranges, "]}}");
  }

  // The addresses that host-local has given out.
  std::vector<std::string> Leases() const {
    std::vector<std::string> leases;
    for (const std::string& name :
         base::ListDirectory(dir_ / "leases/pods").value_or(std::vector<std::string>())) {
      if (name.find("last_reserved") == std::string::npos && name != "lock") {
        leases.push_back(name);
      }
    }
    return leases;
  }

  TempDir dir_;
  const base::Launcher launcher_{"", ""};
  PodNetwork network_{NetworkConfig{.conf_dir = dir_ / "conf", .plugin_dirs = {kPluginDirectory}},
                      launcher_};
  PodAttachment pod_{
      .pod = base::PodId::Random(), .pod_namespace = "shop", .pod_name = "web", .pod_uid = "u"};
  const base::Context ctx_ = base::Context::Detached(absl::Seconds(60));
};

TEST_F(RealPluginsTest, PodIsReachableByItsAddressAndItsHostPort) {
  ASSERT_TRUE(network_.Ready().ok()) << network_.Ready();
  const auto plan = network_.Prepare(pod_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto attached = network_.Attach(ctx_, *plan);
  ASSERT_TRUE(attached.ok()) << attached.status();
  ASSERT_THAT(attached->ips, SizeIs(2));
  EXPECT_THAT(attached->ips[0], HasSubstr("10.87.0."));
  EXPECT_THAT(attached->ips[1], HasSubstr("fd00:87::"));

  base::UniqueFd listener;
  InNamespace(pod_.netns_path, [&] {
    listener.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in any = Address("0.0.0.0", 80);
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
    ASSERT_EQ(listen(listener.get(), 8), 0);
  });
  EXPECT_TRUE(CanConnect(attached->ips[0], 80));
  EXPECT_TRUE(CanConnect("10.87.0.1", 8087));
  EXPECT_TRUE(CanConnect("127.0.0.1", 8087));
  EXPECT_THAT(Output({"/sbin/tc", "qdisc", "show"}), HasSubstr("tbf"));

  ASSERT_TRUE(network_.Detach(ctx_, *plan, attached->result, pod_.netns_path).ok());
  EXPECT_THAT(Leases(), IsEmpty());
  EXPECT_THAT(NatRules(), Not(HasSubstr("8087")));
  EXPECT_FALSE(CanConnect("127.0.0.1", 8087));
  EXPECT_TRUE(network_.Detach(ctx_, *plan, attached->result, pod_.netns_path).ok());
}

TEST_F(RealPluginsTest, DetachAfterTheNamespaceWentLeavesNothing) {
  const auto plan = network_.Prepare(pod_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto attached = network_.Attach(ctx_, *plan);
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_THAT(Leases(), SizeIs(2));
  EXPECT_THAT(NatRules(), HasSubstr("8087"));
  ASSERT_TRUE(UnpinNamespace(pod_.netns_path).ok());

  const absl::Status detached = network_.Detach(ctx_, *plan, attached->result, pod_.netns_path);
  EXPECT_TRUE(detached.ok()) << detached;
  EXPECT_THAT(Leases(), IsEmpty());
  EXPECT_THAT(NatRules(), Not(HasSubstr("8087")));
  EXPECT_TRUE(network_.Detach(ctx_, *plan, "", "").ok());
}

TEST_F(RealPluginsTest, DetachWithoutAResultReturnsTheAddress) {
  const auto plan = network_.Prepare(pod_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_TRUE(network_.Attach(ctx_, *plan).ok());
  EXPECT_THAT(Leases(), SizeIs(2));
  const absl::Status detached = network_.Detach(ctx_, *plan, "", pod_.netns_path);
  EXPECT_TRUE(detached.ok()) << detached;
  EXPECT_THAT(Leases(), IsEmpty());
}

TEST_F(RealPluginsTest, ChainThatFailsAtItsEndLeavesNothing) {
  auto plan = network_.Prepare(pod_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  // The last plugin refuses a burst without a rate.
  const std::string rate = "\"egressRate\":10000000";
  plan->replace(plan->find(rate), rate.size(), "\"egressRate\":0");
  absl::Status cleanup;
  const auto attached = network_.Attach(ctx_, *plan, &cleanup);
  EXPECT_THAT(std::string(attached.status().message()),
              HasSubstr("network pods: plugin bandwidth: ADD"));
  // It refuses to undo the same nonsense, which must not keep the others from being undone.
  EXPECT_THAT(std::string(cleanup.message()), HasSubstr("plugin bandwidth: DEL"));
  EXPECT_THAT(Leases(), IsEmpty());
  EXPECT_THAT(NatRules(), Not(HasSubstr("8087")));
}

TEST_F(RealPluginsTest, DualStackPodHasThePreferredAddressFirstAndAnswersOnBoth) {
  if (!HasIpv6()) GTEST_SKIP() << "SKIP: IPv6 in this kernel";
  for (const IpPreference preference : {IpPreference::kIpv4, IpPreference::kIpv6}) {
    PodNetwork network(
        ConfigWith(Bridge(R"([{"subnet":"10.87.0.0/24"}],[{"subnet":"fd00:87::/64"}])") +
                       R"(,{"type":"portmap","capabilities":{"portMappings":true}})",
                   preference),
        launcher_);
    const auto plan = network.Prepare(pod_);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const auto attached = network.Attach(ctx_, *plan);
    ASSERT_TRUE(attached.ok()) << attached.status();
    ASSERT_THAT(attached->ips, SizeIs(2));
    const size_t v6 = preference == IpPreference::kIpv6 ? 0 : 1;
    EXPECT_THAT(attached->ips[1 - v6], HasSubstr("10.87.0."));
    EXPECT_THAT(attached->ips[v6], HasSubstr("fd00:87::"));
    base::UniqueFd listener;
    InNamespace(pod_.netns_path, [&] {
      listener.Reset(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const sockaddr_in6 any = Address6("::", 80);
      ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
      ASSERT_EQ(listen(listener.get(), 8), 0);
    });
    EXPECT_TRUE(CanConnect(attached->ips[1 - v6], 80));
    EXPECT_TRUE(Eventually([&] { return CanConnect6(attached->ips[v6], 80); }));
    EXPECT_TRUE(CanConnect6("fd00:87::1", 8087)) << "the host port by the bridge's address";
    ASSERT_TRUE(network.Detach(ctx_, *plan, attached->result, pod_.netns_path).ok());
    EXPECT_THAT(Leases(), IsEmpty());
    EXPECT_THAT(Rules(), Not(HasSubstr("8087")));
    EXPECT_THAT(Rules(), Not(HasSubstr(pod_.pod.str())));
  }
}

TEST_F(RealPluginsTest, PodOfIpv6AloneIsReachable) {
  if (!HasIpv6()) GTEST_SKIP() << "SKIP: IPv6 in this kernel";
  PodNetwork network(ConfigWith(Bridge(R"([{"subnet":"fd00:87::/64"}])"), IpPreference::kIpv4),
                     launcher_);
  pod_.port_mappings.clear();
  const auto plan = network.Prepare(pod_);
  const auto attached = network.Attach(ctx_, *plan);
  ASSERT_TRUE(attached.ok()) << attached.status();
  ASSERT_THAT(attached->ips, SizeIs(1));
  base::UniqueFd listener;
  InNamespace(pod_.netns_path, [&] {
    listener.Reset(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in6 any = Address6("::", 80);
    ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
    ASSERT_EQ(listen(listener.get(), 8), 0);
  });
  EXPECT_TRUE(Eventually([&] { return CanConnect6(attached->ips[0], 80); }));
  EXPECT_TRUE(network.Detach(ctx_, *plan, attached->result, pod_.netns_path).ok());
}

TEST_F(RealPluginsTest, TheNodesRangesAreEnoughForHostLocal) {
  const std::string plugin = base::StrCat(
      R"({"type":"bridge","bridge":"crisp-test0","isGateway":true,"capabilities":{"ipRanges":true},
          "ipam":{"type":"host-local","dataDir":")",
      dir_ / "leases", R"("}})");
  PodNetwork network(ConfigWith(plugin, IpPreference::kIpv4), launcher_);
  pod_.node_ranges = {"10.88.3.0/24", "fd00:88::/64"};
  const auto plan = network.Prepare(pod_);
  const auto attached = network.Attach(ctx_, *plan);
  ASSERT_TRUE(attached.ok()) << attached.status();
  ASSERT_THAT(attached->ips, SizeIs(2));
  EXPECT_THAT(attached->ips[0], HasSubstr("10.88.3."));
  EXPECT_TRUE(network.Detach(ctx_, *plan, attached->result, pod_.netns_path).ok());
  EXPECT_THAT(Leases(), IsEmpty());
}

TEST_F(RealPluginsTest, ChainWithFirewallAndTuningLeavesNoRule) {
  for (const char* name : {"firewall", "tuning"}) {
    if (!base::Exists(base::StrCat(kPluginDirectory, "/", name))) {
      GTEST_SKIP() << "SKIP: " << kPluginDirectory << "/" << name;
    }
  }
  PodNetwork network(ConfigWith(Bridge(R"([{"subnet":"10.87.0.0/24"}])") +
                                    R"(,{"type":"firewall","backend":"iptables"},
                                        {"type":"tuning","sysctl":{"net.ipv4.conf.eth0.arp_notify":"1"}},
                                        {"type":"portmap","capabilities":{"portMappings":true}})",
                                IpPreference::kIpv4),
                     launcher_);
  pod_.port_mappings.push_back(
      {.host_port = 8088, .container_port = 81, .protocol = "UDP", .host_ip = "127.0.0.1"});
  const auto plan = network.Prepare(pod_);
  const auto attached = network.Attach(ctx_, *plan);
  ASSERT_TRUE(attached.ok()) << attached.status();
  const auto filter = [] { return Output({"/usr/sbin/iptables", "-S"}); };
  EXPECT_THAT(filter(), HasSubstr(attached->ips[0]));
  EXPECT_THAT(Rules(), HasSubstr("-d 127.0.0.1/32 -p udp -m udp --dport 8088"));
  InNamespace(pod_.netns_path,
              [] { EXPECT_EQ(ReadTestFile("/proc/sys/net/ipv4/conf/eth0/arp_notify"), "1\n"); });
  ASSERT_TRUE(network.Detach(ctx_, *plan, attached->result, pod_.netns_path).ok());
  EXPECT_THAT(filter(), Not(HasSubstr(attached->ips[0])));
  for (const std::string& trace : {std::string("8087"), std::string("8088"), pod_.pod.str()}) {
    EXPECT_THAT(Rules(), Not(HasSubstr(trace)));
  }
}

}  // namespace
}  // namespace network
