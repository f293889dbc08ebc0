#include "runtimeservice/spec/annotations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

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

}  // namespace
}  // namespace runtimeservice
