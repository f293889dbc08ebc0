#include "runtimeservice/spec/selinux.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(SelinuxLabelTest, FourPartsOfTheRightFormAreALabel) {
  for (const char* text : {"system_u:system_r:container_t:s0", "u:r:t:s0:c1,c2",
                           "u:r:t:s0-s15:c0.c1023", "u:r:t:s0:c1-s2:c1,c5.c9", "a.b-c:r_1:t:s3"}) {
    const absl::StatusOr<SelinuxLabel> label = ParseSelinuxLabel(text);
    ASSERT_TRUE(label.ok()) << label.status();
    EXPECT_EQ(label->Text(), text);
  }
}

TEST(SelinuxLabelTest, NonsenseIsNoLabel) {
  for (const char* text :
       {"", "u", "u:r:t", "u:r:t:", ":r:t:s0", "u::t:s0", "u:r:t:c1", "u:r:t:s0:", "u:r:t:s0:c1,",
        "u:r:t:s0:c", "u:r:t:s0:c1.", "u:r:t:s0-", "u:r:t:s", "u:r:t:s0:d1", "u r:r:t:s0",
        "u:r:t:s0:c1;c2", "u:r:t:s9999999999", "u:r:t:s0\n"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseSelinuxLabel(text).status())) << text;
  }
}

TEST(SelinuxOptionsTest, BadPartsAreNamed) {
  cri::SELinuxOption options;
  EXPECT_TRUE(CheckSelinuxOptions(options).ok());
  options.set_level("s0:c1,c2");
  EXPECT_TRUE(CheckSelinuxOptions(options).ok());
  options.set_level("invalid");
  EXPECT_THAT(std::string(CheckSelinuxOptions(options).message()),
              HasSubstr("linux.security_context.selinux_options.level: "));
  options.set_level("");
  options.set_type("a:b");
  EXPECT_THAT(std::string(CheckSelinuxOptions(options).message()),
              HasSubstr("linux.security_context.selinux_options.type: "));
}

TEST(LxcContextsTest, FileGivesWhatItHas) {
  const SelinuxContexts contexts = ParseLxcContexts(
      "# comment\nprocess = \"a_u:a_r:a_t:s0\"\ncontent = \"x:y:z:s0\"\n"
      "file = \"b_u:object_r:b_t:s0\"\nro_file=\"c_u:object_r:c_t:s0\"\n");
  EXPECT_EQ(contexts.process.Text(), "a_u:a_r:a_t:s0");
  EXPECT_EQ(contexts.file.Text(), "b_u:object_r:b_t:s0");
  const SelinuxContexts standard = ParseLxcContexts("process = nonsense\n");
  EXPECT_EQ(standard.process.Text(), "system_u:system_r:container_t:s0");
  EXPECT_EQ(standard.file.Text(), "system_u:object_r:container_file_t:s0");
}

class SelinuxTest : public testing::Test {
 protected:
  SelinuxTest() { host_ = {.enabled = true, .contexts = {}, .check = Known()}; }
  // A policy that knows everything but the type unknown_t.
  static std::function<absl::Status(const std::string&)> Known(std::string unknown = "unknown_t") {
    return [unknown](const std::string& label) {
      return label.find(":" + unknown + ":") == std::string::npos
                 ? absl::OkStatus()
                 : absl::InvalidArgumentError("the policy does not know it");
    };
  }
  Selinux Make(bool hostnetwork_disable = true) { return Selinux(host_, hostnetwork_disable); }

  SelinuxHost host_;
  cri::LinuxSandboxSecurityContext pod_;
  cri::LinuxContainerSecurityContext container_;
};

TEST_F(SelinuxTest, EveryPodHasAPairOfItsOwn) {
  Selinux selinux = Make();
  std::set<std::string> seen;
  for (int i = 0; i < 500; ++i) {
    const SelinuxLabels labels = *selinux.ForPod("pod" + std::to_string(i), pod_);
    EXPECT_THAT(labels.process, MatchesRegex("system_u:system_r:container_t:s0:c[0-9]+,c[0-9]+"));
    const std::string level = ParseSelinuxLabel(labels.process)->level;
    EXPECT_EQ(labels.mount, "system_u:object_r:container_file_t:" + level);
    EXPECT_TRUE(seen.insert(level).second) << level;
  }
}

TEST_F(SelinuxTest, PairsOfKnownPodsAreTaken) {
  // Of all pairs every 97th is another pod's.
  host_.contexts.process.level = "s3";
  Selinux selinux = Make();
  for (int a = 0; a < 1024; ++a) {
    for (int b = a + 1; b < 1024; b += 97) {
      selinux.Reserve(std::to_string(a) + "-" + std::to_string(b),
                      {"", "u:r:t:s3:c" + std::to_string(a) + ",c" + std::to_string(b)});
    }
  }
  for (int i = 0; i < 50; ++i) {
    const SelinuxLabel label = *ParseSelinuxLabel(selinux.ForPod("new", pod_)->process);
    int a = -1;
    int b = -1;
    ASSERT_EQ(sscanf(label.level.c_str(), "s3:c%d,c%d", &a, &b), 2);
    EXPECT_LT(a, b);
    EXPECT_NE((b - a - 1) % 97, 0) << label.level;
  }
}

TEST_F(SelinuxTest, OptionsReplaceTheirParts) {
  Selinux selinux = Make();
  pod_.mutable_selinux_options()->set_level("s0:c7,c9");
  pod_.mutable_selinux_options()->set_type("own_t");
  pod_.mutable_selinux_options()->set_user("own_u");
  const SelinuxLabels labels = *selinux.ForPod("pod", pod_);
  EXPECT_EQ(labels.process, "own_u:system_r:own_t:s0:c7,c9");
  EXPECT_EQ(labels.mount, "own_u:object_r:container_file_t:s0:c7,c9");
}

TEST_F(SelinuxTest, WhatThePolicyDoesNotKnowIsRefusedByItsField) {
  Selinux selinux = Make();
  pod_.mutable_selinux_options()->set_type("unknown_t");
  const absl::Status status = selinux.ForPod("pod", pod_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("linux.security_context.selinux_options"));
  container_.mutable_selinux_options()->set_type("unknown_t");
  EXPECT_TRUE(absl::IsInvalidArgument(selinux.ForContainer({}, container_).status()));
}

TEST_F(SelinuxTest, SharedHostNamespacesAreNotSeparated) {
  Selinux selinux = Make();
  pod_.mutable_namespace_options()->set_pid(cri::NODE);
  EXPECT_EQ(selinux.ForPod("pid", pod_)->process, "");
  EXPECT_EQ(selinux.ForPod("pid", pod_)->mount, "");
  pod_.mutable_namespace_options()->set_pid(cri::POD);
  pod_.mutable_namespace_options()->set_ipc(cri::NODE);
  EXPECT_EQ(selinux.ForPod("ipc", pod_)->process, "");
  EXPECT_EQ(selinux.ForContainer({}, container_)->process, "");
  container_.mutable_selinux_options()->set_type("own_t");  // Unless a container says so.
  EXPECT_EQ(selinux.ForContainer({}, container_)->process, "system_u:system_r:own_t:s0");
}

TEST_F(SelinuxTest, HostNetworkIsAsConfigured) {
  pod_.mutable_namespace_options()->set_network(cri::NODE);
  Selinux without = Make(true);
  EXPECT_EQ(without.ForPod("pod", pod_)->process, "");
  EXPECT_NE(without.ForPod("pod", pod_)->mount, "");
  Selinux with = Make(false);
  EXPECT_NE(with.ForPod("pod", pod_)->process, "");
}

TEST_F(SelinuxTest, ContainersShareThePodsLabel) {
  Selinux selinux = Make();
  const SelinuxLabels labels = *selinux.ForPod("pod", pod_);
  EXPECT_EQ(selinux.ForContainer(labels, container_)->process, labels.process);
  EXPECT_EQ(selinux.ForContainer(labels, container_)->mount, labels.mount);
  container_.mutable_selinux_options()->set_type("own_t");
  const SelinuxLabel own = *ParseSelinuxLabel(selinux.ForContainer(labels, container_)->process);
  EXPECT_EQ(own.type, "own_t");
  EXPECT_EQ(own.level, ParseSelinuxLabel(labels.process)->level);
  container_.mutable_selinux_options()->set_level("s0:c1,c2");
  EXPECT_EQ(selinux.ForContainer(labels, container_)->mount,
            "system_u:object_r:container_file_t:s0:c1,c2");
}

TEST_F(SelinuxTest, PrivilegedIsSuperPrivilegedWhereThePolicyHasThat) {
  Selinux selinux = Make();
  container_.set_privileged(true);
  const SelinuxLabels pod = *selinux.ForPod("pod", pod_);
  EXPECT_EQ(ParseSelinuxLabel(selinux.ForContainer(pod, container_)->process)->type, "spc_t");
  host_.check = Known("spc_t");
  EXPECT_EQ(Make().ForContainer(pod, container_)->process, "");
  container_.mutable_selinux_options()->set_type("own_t");
  EXPECT_EQ(ParseSelinuxLabel(Make().ForContainer(pod, container_)->process)->type, "own_t");
}

TEST_F(SelinuxTest, WithoutSelinuxThereAreNoLabelsButNonsenseIsRefused) {
  host_.enabled = false;
  Selinux selinux = Make();
  pod_.mutable_selinux_options()->set_level("s0:c1,c2");
  EXPECT_EQ(selinux.ForPod("pod", pod_)->process, "");
  EXPECT_EQ(selinux.ForContainer({"u:r:t:s0", "u:r:f:s0"}, container_)->process, "");
  pod_.mutable_selinux_options()->set_level("nonsense");
  EXPECT_TRUE(absl::IsInvalidArgument(selinux.ForPod("pod", pod_).status()));
  container_.mutable_selinux_options()->set_user("a b");
  EXPECT_TRUE(absl::IsInvalidArgument(selinux.ForContainer({}, container_).status()));
}

}  // namespace
}  // namespace runtimeservice
