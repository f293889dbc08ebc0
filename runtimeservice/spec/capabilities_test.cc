#include "runtimeservice/spec/capabilities.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Capabilities kDefaults = {"CAP_CHOWN", "CAP_KILL"};

HostFacts FullHost() {
  HostFacts host;
  for (int number = 0; !CapabilityName(number).empty(); ++number) {
    host.capabilities.emplace_back(CapabilityName(number));
  }
  return host;
}

// The result for the given lists, on a host with everything.
absl::StatusOr<Capabilities> With(const std::vector<std::string>& add,
                                  const std::vector<std::string>& drop) {
  cri::LinuxContainerSecurityContext security;
  for (const std::string& name : add) {
    security.mutable_capabilities()->add_add_capabilities(name);
  }
  for (const std::string& name : drop) {
    security.mutable_capabilities()->add_drop_capabilities(name);
  }
  return ContainerCapabilities(security, kDefaults, FullHost());
}

TEST(CapabilitiesTest, NamesMatchTheKernelsNumbers) {
  EXPECT_EQ(CapabilityNumber("CAP_CHOWN"), CAP_CHOWN);
  EXPECT_EQ(CapabilityNumber("CAP_SYS_ADMIN"), CAP_SYS_ADMIN);
  EXPECT_EQ(CapabilityNumber("CAP_SETFCAP"), CAP_SETFCAP);
  EXPECT_EQ(CapabilityNumber("CAP_CHECKPOINT_RESTORE"), CAP_LAST_CAP);
  EXPECT_EQ(CapabilityNumber("CAP_NO_SUCH"), -1);
  EXPECT_EQ(CapabilityName(CAP_NET_RAW), "CAP_NET_RAW");
  EXPECT_EQ(CapabilityName(CAP_LAST_CAP + 1), "");
}

TEST(CapabilitiesTest, NoRequestMeansTheDefaults) {
  EXPECT_THAT(*With({}, {}), ElementsAre("CAP_CHOWN", "CAP_KILL"));
}

TEST(CapabilitiesTest, AnySpellingOfANameCounts) {
  EXPECT_THAT(*With({"net_raw", "Cap_Sys_Time"}, {"cap_chown"}),
              ElementsAre("CAP_KILL", "CAP_NET_RAW", "CAP_SYS_TIME"));
}

TEST(CapabilitiesTest, AddAllDropOneIsAllButOne) {
  const Capabilities result = *With({"ALL"}, {"NET_RAW"});
  EXPECT_EQ(result.size(), FullHost().capabilities.size() - 1);
  EXPECT_EQ(std::count(result.begin(), result.end(), "CAP_NET_RAW"), 0);
}

TEST(CapabilitiesTest, DropAllAddOneIsThatOne) {
  EXPECT_THAT(*With({"NET_ADMIN"}, {"all"}), ElementsAre("CAP_NET_ADMIN"));
}

TEST(CapabilitiesTest, DropAllIsNone) { EXPECT_THAT(*With({}, {"ALL"}), IsEmpty()); }

TEST(CapabilitiesTest, AddedAndDroppedIsDropped) {
  EXPECT_THAT(*With({"NET_RAW"}, {"NET_RAW"}), ElementsAre("CAP_CHOWN", "CAP_KILL"));
}

TEST(CapabilitiesTest, UnknownNameIsAnErrorThatNamesTheField) {
  const absl::Status added = With({"NET_RAW", "NO_SUCH"}, {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(added));
  EXPECT_THAT(std::string(added.message()), HasSubstr("add_capabilities[1]"));
  const absl::Status dropped = With({}, {"NO_SUCH"}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(dropped));
  EXPECT_THAT(std::string(dropped.message()), HasSubstr("drop_capabilities[0]"));
}

TEST(CapabilitiesTest, WhatTheDaemonLacksIsLeftOutUnlessAskedFor) {
  HostFacts host;
  host.capabilities = {"CAP_KILL", "CAP_NET_RAW"};
  cri::LinuxContainerSecurityContext security;
  EXPECT_THAT(*ContainerCapabilities(security, kDefaults, host), ElementsAre("CAP_KILL"));
  security.mutable_capabilities()->add_add_capabilities("ALL");
  EXPECT_THAT(*ContainerCapabilities(security, kDefaults, host),
              ElementsAre("CAP_KILL", "CAP_NET_RAW"));
  security.mutable_capabilities()->add_add_capabilities("SYS_RESOURCE");
  const absl::Status lacking = ContainerCapabilities(security, kDefaults, host).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(lacking));
  EXPECT_THAT(std::string(lacking.message()), HasSubstr("CAP_SYS_RESOURCE"));
}

TEST(CapabilitiesTest, PrivilegedIsAllTheDaemonHolds) {
  HostFacts host;
  host.capabilities = {"CAP_KILL", "CAP_NET_RAW"};
  cri::LinuxContainerSecurityContext security;
  security.set_privileged(true);
  security.mutable_capabilities()->add_drop_capabilities("ALL");
  EXPECT_EQ(*ContainerCapabilities(security, kDefaults, host), host.capabilities);
}

TEST(CapabilitiesTest, AmbientOnesAreHeldAndPassedOn) {
  cri::LinuxContainerSecurityContext security;
  security.mutable_capabilities()->add_drop_capabilities("ALL");
  security.mutable_capabilities()->add_drop_capabilities("NET_RAW");
  security.mutable_capabilities()->add_add_capabilities("KILL");
  for (const char* name : {"net_bind_service", "CAP_NET_RAW"}) {
    security.mutable_capabilities()->add_add_ambient_capabilities(name);
  }
  const Capabilities held = *ContainerCapabilities(security, kDefaults, FullHost());
  EXPECT_THAT(held, ElementsAre("CAP_KILL", "CAP_NET_BIND_SERVICE"));
  EXPECT_THAT(*AmbientCapabilities(security, held), ElementsAre("CAP_NET_BIND_SERVICE"));
}

TEST(CapabilitiesTest, AmbientAllIsAllThatIsHeld) {
  cri::LinuxContainerSecurityContext security;
  EXPECT_THAT(*AmbientCapabilities(security, kDefaults), IsEmpty());
  security.mutable_capabilities()->add_add_ambient_capabilities("ALL");
  EXPECT_THAT(*ContainerCapabilities(security, kDefaults, FullHost()), testing::Eq(kDefaults));
  EXPECT_THAT(*AmbientCapabilities(security, kDefaults), testing::Eq(kDefaults));
}

TEST(CapabilitiesTest, AmbientOnesThatCannotBeHadNameTheirField) {
  cri::LinuxContainerSecurityContext security;
  security.mutable_capabilities()->add_add_ambient_capabilities("NET_RAW");
  absl::Status status = ContainerCapabilities(security, kDefaults, HostFacts()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("add_ambient_capabilities: the daemon"));
  security.mutable_capabilities()->add_add_ambient_capabilities("NO_SUCH");
  status = ContainerCapabilities(security, kDefaults, FullHost()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("add_ambient_capabilities[1]"));
}

}  // namespace
}  // namespace runtimeservice
