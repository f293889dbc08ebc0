#include "runtimeservice/requests.h"

#include <functional>

#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

cri::PodSandboxConfig GoodPod() {
  cri::PodSandboxConfig config;
  config.mutable_metadata()->set_name("web");
  config.mutable_metadata()->set_namespace_("default");
  config.mutable_metadata()->set_uid("uid");
  return config;
}

TEST(RequestsTest, EachMissingFieldOfAPodIsNamed) {
  EXPECT_TRUE(CheckPodConfig(GoodPod(), true).ok());
  EXPECT_FALSE(CheckPodConfig({}, false).ok());
  for (const std::string field : {"name", "namespace", "uid"}) {
    cri::PodSandboxConfig config = GoodPod();
    if (field == "name") config.mutable_metadata()->clear_name();
    if (field == "namespace") config.mutable_metadata()->clear_namespace_();
    if (field == "uid") config.mutable_metadata()->clear_uid();
    const absl::Status status = CheckPodConfig(config, true);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_NE(std::string(status.message()).find("metadata." + field), std::string::npos);
  }
}

TEST(RequestsTest, NamesHaveALimitAndAreOneLine) {
  cri::PodSandboxConfig pod = GoodPod();
  pod.mutable_metadata()->set_name(std::string(253, 'a'));
  EXPECT_TRUE(CheckPodConfig(pod, true).ok());
  pod.mutable_metadata()->set_name(std::string(254, 'a'));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPodConfig(pod, true)));
  pod.mutable_metadata()->set_name("a\nb");
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPodConfig(pod, true)));
}

TEST(RequestsTest, LogPathsCannotClimb) {
  cri::PodSandboxConfig pod = GoodPod();
  pod.set_log_directory("relative");
  EXPECT_FALSE(CheckPodConfig(pod, true).ok());
  pod.set_log_directory("/var/log/../../etc");
  EXPECT_FALSE(CheckPodConfig(pod, true).ok());
  cri::ContainerConfig container;
  container.mutable_metadata()->set_name("c");
  container.mutable_image()->set_image("busybox");
  EXPECT_TRUE(CheckContainerConfig(container, true).ok());
  container.set_log_path("../x.log");
  EXPECT_FALSE(CheckContainerConfig(container, true).ok());
}

TEST(RequestsTest, NamespaceModesAreChecked) {
  cri::PodSandboxConfig pod = GoodPod();
  cri::NamespaceOption* options =
      pod.mutable_linux()->mutable_security_context()->mutable_namespace_options();
  options->set_network(cri::CONTAINER);
  EXPECT_FALSE(CheckPodConfig(pod, true).ok());
  options->set_network(cri::NODE);
  EXPECT_TRUE(CheckPodConfig(pod, true).ok());
  options->set_pid(cri::TARGET);
  EXPECT_FALSE(CheckPodConfig(pod, true).ok());
  options->set_pid(cri::CONTAINER);
  options->mutable_userns_options()->set_mode(cri::POD);
  EXPECT_FALSE(CheckPodConfig(pod, true).ok());
  options->mutable_userns_options()->set_mode(cri::NODE);
  EXPECT_TRUE(CheckPodConfig(pod, true).ok());
}

// The message with which a pod of this security context is refused; empty if it is not.
std::string Refusal(const std::function<void(cri::LinuxSandboxSecurityContext*)>& change) {
  cri::PodSandboxConfig pod = GoodPod();
  change(pod.mutable_linux()->mutable_security_context());
  const absl::Status status = CheckPodConfig(pod, true);
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(RequestsTest, UsersOfPodsAreChecked) {
  using Security = cri::LinuxSandboxSecurityContext;
  EXPECT_EQ(Refusal([](Security* s) {
              s->mutable_run_as_user()->set_value(4294967294);
              s->mutable_run_as_group()->set_value(0);
              s->add_supplemental_groups(4294967294);
            }),
            "");
  const auto expect = [](const char* field, const std::function<void(Security*)>& change) {
    EXPECT_NE(Refusal(change).find(field), std::string::npos) << field;
  };
  expect("run_as_user:", [](Security* s) { s->mutable_run_as_user()->set_value(4294967295); });
  expect("run_as_user:", [](Security* s) { s->mutable_run_as_user()->set_value(-1); });
  expect("run_as_group:", [](Security* s) { s->mutable_run_as_group()->set_value(1); });
  expect("supplemental_groups[1]:", [](Security* s) {
    s->add_supplemental_groups(1);
    s->add_supplemental_groups(int64_t{1} << 40);
  });
  expect("supplemental_groups_policy:", [](Security* s) {
    s->set_supplemental_groups_policy(static_cast<cri::SupplementalGroupsPolicy>(7));
  });
}

TEST(RequestsTest, ProfilesOfPodsAreChecked) {
  using Security = cri::LinuxSandboxSecurityContext;
  const auto localhost = cri::SecurityProfile::Localhost;
  EXPECT_NE(Refusal([&](Security* s) {
              s->mutable_seccomp()->set_profile_type(localhost);
            }).find("seccomp.localhost_ref"),
            std::string::npos);
  EXPECT_NE(Refusal([&](Security* s) {
              s->mutable_apparmor()->set_profile_type(localhost);
            }).find("apparmor.localhost_ref"),
            std::string::npos);
}

TEST(RequestsTest, EqualMessagesAreEqualWhateverTheirMapsOrder) {
  cri::PodSandboxConfig a = GoodPod();
  cri::PodSandboxConfig b = GoodPod();
  for (int i = 0; i < 20; ++i) {
    (*a.mutable_labels())[std::to_string(i)] = "x";
    (*b.mutable_labels())[std::to_string(19 - i)] = "x";
  }
  EXPECT_TRUE(SameMessage(a, b));
  (*b.mutable_labels())["0"] = "y";
  EXPECT_FALSE(SameMessage(a, b));
}

}  // namespace
}  // namespace runtimeservice
