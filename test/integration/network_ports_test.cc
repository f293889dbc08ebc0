// Host ports of pods: on loopback, by protocol, and what is refused.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class NetworkPortsTest : public IntegrationTest {
 protected:
  // A port of the host that nobody has now.
  static int FreePort(int type) {
    const base::UniqueFd probe(socket(AF_INET, type | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(probe.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin_port);
  }
  static cri::PortMapping* AddPort(cri::RunPodSandboxRequest* request, int host, int container,
                                   cri::Protocol protocol = cri::TCP) {
    cri::PortMapping* mapping = request->mutable_config()->add_port_mappings();
    mapping->set_host_port(host);
    mapping->set_container_port(container);
    mapping->set_protocol(protocol);
    return mapping;
  }
  static std::string NatRules() { return RunProgram({"iptables-save", "-t", "nat"}).value_or(""); }
};

TEST_F(NetworkPortsTest, TcpAndUdpAreReachedOnLoopbackUntilThePodGoes) {
  if (NatRules().empty()) GTEST_SKIP() << "SKIP: iptables-save -t nat";
  ASSERT_OK(Pull(kBusybox));
  const int tcp = FreePort(SOCK_STREAM);
  const int udp = FreePort(SOCK_DGRAM);
  cri::RunPodSandboxRequest request = PodRequest("ports");
  AddPort(&request, tcp, 7001);
  AddPort(&request, udp, 7002, cri::UDP)->set_host_ip("127.0.0.1");
  AddPort(&request, 0, 7003);
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod(request));
  ASSERT_OK(RunContainer(pod, "c",
                         "(while true; do echo by-tcp | nc -l -p 7001; done) &"
                         "nc -u -l -p 7002 -e echo by-udp & echo serving; wait"));
  ASSERT_TRUE(LogGets("ports", "c.log", "serving"));
  const auto ask = [](const std::string& options, int port) {
    return RunProgram({"busybox", "sh", "-c",
                       base::StrCat("echo hello | nc ", options, " -w 3 127.0.0.1 ", port)})
        .value_or("");
  };
  EXPECT_TRUE(Eventually([&] { return ask("", tcp) == "by-tcp\n"; }));
  EXPECT_THAT(NatRules(), HasSubstr(base::StrCat("--dport ", tcp)));
  EXPECT_THAT(NatRules(), HasSubstr(base::StrCat("-d 127.0.0.1/32 -p udp -m udp --dport ", udp)));
  ASSERT_OK(RemovePod(pod));
  EXPECT_THAT(NatRules(), Not(HasSubstr(base::StrCat("--dport ", tcp))));
  EXPECT_THAT(NatRules(), Not(HasSubstr(base::StrCat("--dport ", udp))));
  EXPECT_THAT(NatRules(), Not(HasSubstr(pod)));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

TEST_F(NetworkPortsTest, SctpReachesThePlugin) {
  if (NatRules().empty()) GTEST_SKIP() << "SKIP: iptables-save -t nat";
  cri::RunPodSandboxRequest request = PodRequest("sctp");
  AddPort(&request, 7132, 7132, cri::SCTP);
  const absl::StatusOr<std::string> pod = RunPod(request);
  if (!pod.ok() && pod.status().message().find("iptables") != absl::string_view::npos) {
    GTEST_SKIP() << "SKIP: SCTP in this kernel's packet filter: " << pod.status();
  }
  ASSERT_OK(pod);
  EXPECT_THAT(NatRules(), HasSubstr("-p sctp"));
  ASSERT_OK(RemovePod(*pod));
  EXPECT_THAT(NatRules(), Not(HasSubstr(*pod)));
}

TEST_F(NetworkPortsTest, WrongMappingsAreRefusedBeforeAnythingIsMade) {
  struct Case {
    int host;
    int container;
    int protocol;
    const char* address;
    const char* words;
  };
  for (const Case& wrong :
       {Case{65536, 80, 0, "", "config.port_mappings[1].host_port: 65536 is not a port"},
        Case{80, 0, 0, "", "config.port_mappings[1].container_port: 0 is not a port"},
        Case{80, 80, 9, "", "config.port_mappings[1].protocol: there is no protocol 9"},
        Case{80, 80, 0, "here", "config.port_mappings[1].host_ip: \"here\" is not an IP address"},
        Case{79, 80, 0, "", "config.port_mappings[1].host_port: 79 is asked for twice"}}) {
    cri::RunPodSandboxRequest request = PodRequest("wrong");
    AddPort(&request, 79, 79);
    AddPort(&request, wrong.host, wrong.container, static_cast<cri::Protocol>(wrong.protocol))
        ->set_host_ip(wrong.address);
    const absl::Status refused = RunPod(request).status();
    EXPECT_THAT(refused, HasCode(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(refused.message(), HasSubstr(wrong.words));
    EXPECT_THAT(Leftovers(), IsEmpty());
  }
}

TEST_F(NetworkPortsTest, WhatAPluginSaysOfAPortReachesTheCaller) {
  const std::string plugin = base::StrCat(environment().Get("CNI"), "/bin/taken");
  ASSERT_OK(base::ReplaceFile(plugin,
                              "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit\necho "
                              "'{\"code\":100,\"msg\":\"host port 7001 is taken\"}'\nexit 1\n",
                              0755, base::Durability::kVolatile));
  ASSERT_OK(base::ReplaceFile(
      base::StrCat(environment().Get("CNI"), "/conf/00-first.conf"),
      R"({"cniVersion":"1.0.0","name":"first","type":"taken","capabilities":{"portMappings":true}})",
      0644, base::Durability::kVolatile));
  cri::RunPodSandboxRequest request = PodRequest("taken");
  AddPort(&request, 7001, 7001);
  const absl::Status refused = RunPod(request).status();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kUnknown));
  EXPECT_THAT(refused.message(),
              HasSubstr("network first: plugin taken: ADD: host port 7001 is taken"));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

}  // namespace
}  // namespace test
