#include "runtimeservice/spec/sysctls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

cri::PodSandboxConfig PodWith(const std::string& name, const std::string& value) {
  cri::PodSandboxConfig pod;
  (*pod.mutable_linux()->mutable_sysctls())[name] = value;
  return pod;
}

cri::NamespaceOption* Options(cri::PodSandboxConfig* pod) {
  return pod->mutable_linux()->mutable_security_context()->mutable_namespace_options();
}

TEST(SysctlsTest, NamespacedOnesPassInDottedForm) {
  cri::PodSandboxConfig pod = PodWith("net/ipv4/ip_forward", "1");
  (*pod.mutable_linux()->mutable_sysctls())["kernel.shm_rmid_forced"] = "1";
  (*pod.mutable_linux()->mutable_sysctls())["fs.mqueue.msg_max"] = "100";
  EXPECT_THAT(*PodSysctls(pod, {}),
              ElementsAre(Pair("fs.mqueue.msg_max", "100"), Pair("kernel.shm_rmid_forced", "1"),
                          Pair("net.ipv4.ip_forward", "1")));
}

TEST(SysctlsTest, HostWideOnesAreRefusedByName) {
  for (const char* name : {"kernel.panic", "vm.swappiness", "kernel.semantics", "fs.file-max"}) {
    const absl::Status status = PodSysctls(PodWith(name, "1"), {}).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST(SysctlsTest, OnesOfTheHostsNamespacesAreRefused) {
  cri::PodSandboxConfig pod = PodWith("net.core.somaxconn", "1");
  Options(&pod)->set_network(cri::NODE);
  EXPECT_TRUE(absl::IsInvalidArgument(PodSysctls(pod, {}).status()));
  pod = PodWith("kernel.msgmax", "1");
  Options(&pod)->set_ipc(cri::NODE);
  EXPECT_TRUE(absl::IsInvalidArgument(PodSysctls(pod, {}).status()));
}

TEST(SysctlsTest, MalformedOnesAreRefused) {
  for (const char* name :
       {"net.ipv4/../../kernel/panic", "net..ipv4", "net.", "net.a b", "net./etc/passwd"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(PodSysctls(PodWith(name, "1"), {}).status())) << name;
  }
  EXPECT_TRUE(
      absl::IsInvalidArgument(PodSysctls(PodWith("net.core.somaxconn", "1\n2"), {}).status()));
}

TEST(SysctlsTest, DefaultsYieldToTheRequestAndToTheHost) {
  cri::PodSandboxConfig pod = PodWith("net.core.somaxconn", "2");
  Options(&pod)->set_ipc(cri::NODE);
  EXPECT_THAT(
      *PodSysctls(pod, {{"net.core.somaxconn", "1"},
                        {"net.ipv4.ping_group_range", "0 1"},
                        {"kernel.msgmax", "1"}}),
      ElementsAre(Pair("net.core.somaxconn", "2"), Pair("net.ipv4.ping_group_range", "0 1")));
}

}  // namespace
}  // namespace runtimeservice
