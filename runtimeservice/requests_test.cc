#include "runtimeservice/requests.h"

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
