#include "runtimeservice/spec/annotations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(AnnotationsTest, NothingPassesWithoutAnAllowList) {
  cri::PodSandboxConfig pod;
  cri::ContainerConfig container;
  (*pod.mutable_annotations())["io.katacontainers.config"] = "x";
  (*container.mutable_annotations())["a"] = "x";
  EXPECT_THAT(AllowedAnnotations(pod, container, {}), IsEmpty());
}

TEST(AnnotationsTest, AllowedPrefixesPassAndTheContainerWins) {
  cri::PodSandboxConfig pod;
  cri::ContainerConfig container;
  (*pod.mutable_annotations())["io.katacontainers.a"] = "pod";
  (*pod.mutable_annotations())["io.katacontainers.b"] = "pod";
  (*pod.mutable_annotations())["other"] = "pod";
  (*container.mutable_annotations())["io.katacontainers.b"] = "container";
  EXPECT_THAT(
      AllowedAnnotations(pod, container, {"io.katacontainers."}),
      ElementsAre(Pair("io.katacontainers.a", "pod"), Pair("io.katacontainers.b", "container")));
}

TEST(AnnotationsTest, AnEmptyPrefixAllowsNothing) { EXPECT_FALSE(AnnotationAllowed("a", {""})); }

TEST(AnnotationsTest, TheDaemonsOwnNeverPass) {
  for (const char* name :
       {"run.oci.seccomp_bpf_data", "run.oci.hooks.stdout", "org.systemd.property.ExecStopPost",
        "io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.container-type"}) {
    EXPECT_FALSE(
        AnnotationAllowed(name, {"", "r", "run", "run.oci.", "o", "org.systemd", "i", name}))
        << name;
  }
}

TEST(AnnotationsTest, DisallowedOnesAreExceptionsFromTheAllowed) {
  const std::vector<std::string> allowed = {"dev.gvisor."};
  EXPECT_TRUE(AnnotationAllowed("dev.gvisor.spec.mount.a.type", allowed, {"dev.gvisor.flag."}));
  EXPECT_FALSE(AnnotationAllowed("dev.gvisor.flag.debug", allowed, {"dev.gvisor.flag."}));
  EXPECT_TRUE(AnnotationAllowed("dev.gvisor.flag.debug", allowed, {""})) << "a slip";
  EXPECT_FALSE(AnnotationAllowed("dev.gvisor.flag.debug", {}, {}));
}

TEST(AnnotationsTest, BothFamiliesNameThePodAndTheContainer) {
  cri::PodSandboxConfig pod;
  pod.mutable_metadata()->set_name("web-0");
  pod.mutable_metadata()->set_namespace_("shop");
  pod.mutable_metadata()->set_uid("u");
  pod.set_log_directory("/var/log/pods/x");
  pod.mutable_linux()->mutable_resources()->set_cpu_shares(512);
  cri::ContainerConfig container;
  container.mutable_metadata()->set_name("nginx");
  container.mutable_image()->set_image("sha256:1");
  container.mutable_image()->set_user_specified_image("nginx:1");
  ContainerIdentity identity{.pod = pod,
                             .container = container,
                             .pod_id = "P",
                             .container_id = "C",
                             .image_id = "I",
                             .log_path = "/var/log/pods/x/0.log"};
  EXPECT_THAT(
      IdentityAnnotations(identity),
      UnorderedElementsAre(Pair("io.kubernetes.cri.container-type", "container"),
                           Pair("io.kubernetes.cri.sandbox-id", "P"),
                           Pair("io.kubernetes.cri.sandbox-name", "web-0"),
                           Pair("io.kubernetes.cri.sandbox-namespace", "shop"),
                           Pair("io.kubernetes.cri.sandbox-uid", "u"),
                           Pair("io.kubernetes.cri.sandbox-log-directory", "/var/log/pods/x"),
                           Pair("io.kubernetes.cri.container-name", "nginx"),
                           Pair("io.kubernetes.cri.image-name", "nginx:1"),
                           Pair("io.kubernetes.cri-o.ContainerType", "container"),
                           Pair("io.kubernetes.cri-o.SandboxID", "P"),
                           Pair("io.kubernetes.cri-o.KubeName", "web-0"),
                           Pair("io.kubernetes.cri-o.Namespace", "shop"),
                           Pair("io.kubernetes.cri-o.ContainerID", "C"),
                           Pair("io.kubernetes.cri-o.ContainerName", "nginx"),
                           Pair("io.kubernetes.cri-o.LogPath", "/var/log/pods/x/0.log"),
                           Pair("io.kubernetes.cri-o.ImageName", "nginx:1"),
                           Pair("io.kubernetes.cri-o.Image", "I")));
  identity.holds_sandbox = true;
  const auto sandbox = IdentityAnnotations(identity);
  EXPECT_EQ(sandbox.at("io.kubernetes.cri.container-type"), "sandbox");
  EXPECT_EQ(sandbox.at("io.kubernetes.cri-o.ContainerType"), "sandbox");
  EXPECT_EQ(sandbox.at("io.kubernetes.cri.sandbox-cpu-shares"), "512");
  EXPECT_FALSE(sandbox.contains("io.kubernetes.cri.image-name"));
}

}  // namespace
}  // namespace runtimeservice
