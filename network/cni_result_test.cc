#include "network/cni_result.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace network {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Ips(const char* text, IpPreference preference = IpPreference::kIpv4) {
  const auto result = ParseCniResult(text, "1.0.0");
  EXPECT_TRUE(result.ok()) << result.status();
  const auto ips = PodIps(*result, "eth0", preference);
  EXPECT_TRUE(ips.ok()) << ips.status();
  return ips.value_or(std::vector<std::string>());
}

constexpr char kDualStack[] = R"({"cniVersion":"1.1.0",
    "interfaces":[{"name":"cni0","mac":"aa:bb"},{"name":"veth1"},
                  {"name":"eth0","sandbox":"/run/netns/a","mtu":1500},
                  {"name":"net1","sandbox":"/run/netns/a"}],
    "ips":[{"address":"fd00:0:0::5/64","interface":2},{"address":"10.1.2.3/24","interface":2},
           {"address":"10.9.9.9/24","interface":0},{"address":"10.8.8.8/24","interface":3}],
    "routes":[{"dst":"0.0.0.0/0"}],"dns":{}})";

TEST(CniResultTest, AddressesOfThePodsInterfaceComeCanonicalAndIpv4First) {
  EXPECT_THAT(Ips(kDualStack), ElementsAre("10.1.2.3", "fd00::5"));
}

TEST(CniResultTest, PreferenceDecidesWhichAddressIsPrimary) {
  EXPECT_THAT(Ips(kDualStack, IpPreference::kIpv6), ElementsAre("fd00::5", "10.1.2.3"));
  EXPECT_THAT(Ips(kDualStack, IpPreference::kAsReturned), ElementsAre("fd00::5", "10.1.2.3"));
  EXPECT_THAT(
      Ips(R"({"ips":[{"address":"10.0.0.2/8"},{"address":"::2/8"}]})", IpPreference::kAsReturned),
      ElementsAre("10.0.0.2", "::2"));
}

TEST(CniResultTest, Version03ResultsAreUnderstood) {
  EXPECT_THAT(Ips(R"({"cniVersion":"0.3.1","interfaces":[{"name":"eth0","sandbox":"/x"}],
                      "ips":[{"version":"4","address":"10.0.0.7/16","gateway":"10.0.0.1",
                              "interface":0}]})"),
              ElementsAre("10.0.0.7"));
}

TEST(CniResultTest, AddressesWithoutInterfaceCountAndRepeatsDoNot) {
  EXPECT_THAT(Ips(R"({"cniVersion":"1.0.0","ips":[{"address":"10.0.0.7/16"},
                      {"address":"10.0.0.7/32","interface":null}]})"),
              ElementsAre("10.0.0.7"));
}

TEST(CniResultTest, InterfaceNumbersOutOfRangeGiveNoAddress) {
  EXPECT_THAT(Ips(R"({"ips":[{"address":"10.0.0.7/16","interface":5},
                             {"address":"10.0.0.8/16","interface":-1}]})"),
              IsEmpty());
}

TEST(CniResultTest, MissingVersionIsTheConfigurations) {
  EXPECT_EQ((*ParseCniResult(R"({"ips":[]})", "0.4.0"))["cniVersion"], "0.4.0");
  EXPECT_EQ((*ParseCniResult(R"({"cniVersion":"1.0.0"})", "0.4.0"))["cniVersion"], "1.0.0");
}

TEST(CniResultTest, GarbageIsRefused) {
  for (const char* text : {"", "null", "[]", "3", "{", "{} {}", R"({"cniVersion":4})", "\xff"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseCniResult(text, "1.0.0").status())) << text;
  }
}

TEST(CniResultTest, MembersOfTheWrongTypeAreRefused) {
  for (const char* text :
       {R"({"ips":{}})", R"({"ips":[7]})", R"({"ips":[{"address":7}]})", R"({"ips":[{}]})",
        R"({"ips":[{"address":"10.0.0.300/8"}]})", R"({"ips":[{"address":"10.0.0.1;rm/8"}]})",
        R"({"ips":[{"address":"10.0.0.1/8","interface":"0"}]})", R"({"interfaces":7,"ips":[]})",
        R"({"interfaces":[7],"ips":[]})", R"({"interfaces":[{"name":7}],"ips":[]})"}) {
    const auto result = ParseCniResult(text, "1.0.0");
    ASSERT_TRUE(result.ok()) << text;
    EXPECT_TRUE(absl::IsInvalidArgument(PodIps(*result, "eth0", IpPreference::kIpv4).status()))
        << text;
  }
}

TEST(CniErrorTest, MessageAndDetailsAreShown) {
  const auto error = ParseCniError(R"({"cniVersion":"1.0.0","code":7,"msg":"bad","details":"x"})");
  ASSERT_TRUE(error.ok()) << error.status();
  EXPECT_EQ(error->code, 7);
  EXPECT_EQ(error->text, "bad: x");
  EXPECT_EQ(ParseCniError(R"({"code":101})")->text, "error code 101");
}

TEST(CniErrorTest, WhatIsNoErrorIsRefused) {
  for (const char* text : {"", "oops", "{}", R"({"code":0,"msg":"x"})", R"({"code":-3,"msg":"x"})",
                           R"({"code":"3"})", R"({"code":99999999999,"msg":"x"})"}) {
    EXPECT_FALSE(ParseCniError(text).ok()) << text;
  }
}

}  // namespace
}  // namespace network
