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

std::string NatRules() { return Output({"/usr/sbin/iptables", "-t", "nat", "-S"}); }

sockaddr_in Address(const std::string& ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, ip.c_str(), &address.sin_addr);
  return address;
}

bool CanConnect(const std::string& ip, uint16_t port) {
  const base::UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const sockaddr_in address = Address(ip, port);
  if (connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
      errno != EINPROGRESS) {
    return false;
  }
  pollfd ready = {.fd = client.get(), .events = POLLOUT, .revents = 0};
  int error = 0;
  socklen_t size = sizeof(error);
  return poll(&ready, 1, 5000) == 1 &&
         getsockopt(client.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
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

}  // namespace
}  // namespace network
