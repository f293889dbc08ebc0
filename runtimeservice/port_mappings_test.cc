#include "runtimeservice/port_mappings.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;

cri::PortMapping* Add(cri::PodSandboxConfig* config, int host, int container,
                      cri::Protocol protocol = cri::TCP, const std::string& address = "") {
  cri::PortMapping* mapping = config->add_port_mappings();
  mapping->set_host_port(host);
  mapping->set_container_port(container);
  mapping->set_protocol(protocol);
  mapping->set_host_ip(address);
  return mapping;
}

TEST(PortMappingsTest, DifferentMappingsAreFine) {
  cri::PodSandboxConfig config;
  Add(&config, 80, 8080);
  Add(&config, 80, 8080, cri::UDP);
  Add(&config, 80, 8080, cri::SCTP);
  Add(&config, 81, 8080, cri::TCP, "127.0.0.1");
  Add(&config, 81, 8080, cri::TCP, "::1");
  Add(&config, 65535, 65535);
  // Nothing is asked for: a container port that is only told of.
  Add(&config, 0, 8080);
  Add(&config, 0, 8080);
  Add(&config, 0, 0);
  EXPECT_TRUE(CheckPortMappings(config).ok()) << CheckPortMappings(config);
}

TEST(PortMappingsTest, WhatIsNoneIsNamedWithItsField) {
  struct Case {
    int host;
    int container;
    int protocol;
    const char* address;
    const char* field;
  };
  for (const Case& wrong :
       {Case{65536, 80, 0, "", "host_port"}, Case{-1, 80, 0, "", "host_port"},
        Case{80, 0, 0, "", "container_port"}, Case{80, 65536, 0, "", "container_port"},
        Case{0, -1, 0, "", "container_port"}, Case{80, 80, 3, "", "protocol"},
        Case{80, 80, -1, "", "protocol"}, Case{80, 80, 0, "here", "host_ip"},
        Case{80, 80, 0, "10.0.0.1/24", "host_ip"}, Case{0, 80, 0, "1.2.3", "host_ip"}}) {
    cri::PodSandboxConfig config;
    Add(&config, 79, 79);
    Add(&config, wrong.host, wrong.container, static_cast<cri::Protocol>(wrong.protocol),
        wrong.address);
    const absl::Status status = CheckPortMappings(config);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong.field;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(std::string("config.port_mappings[1].") + wrong.field));
  }
}

TEST(PortMappingsTest, TheSameHostPortTwiceIsRefused) {
  cri::PodSandboxConfig config;
  Add(&config, 80, 8080, cri::TCP, "fd00::1");
  Add(&config, 80, 9090, cri::TCP, "fd00:0:0::1");
  const absl::Status status = CheckPortMappings(config);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(status.message(), "config.port_mappings[1].host_port: 80 is asked for twice");
  // Two containers of a pod on the host's network may tell of the same port.
  config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_network(
      cri::NODE);
  EXPECT_TRUE(CheckPortMappings(config).ok());
}

}  // namespace
}  // namespace runtimeservice
