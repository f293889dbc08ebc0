// What verbose answers add, by the keys that tools read.
#include "base/json.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using testing::HasSubstr;

class VerboseTest : public IntegrationTest {
 protected:
  base::Json PodInfo(const std::string& pod) const {
    cri::PodSandboxStatusRequest request;
    request.set_pod_sandbox_id(pod);
    request.set_verbose(true);
    const auto answer = client().Call(&RuntimeStub::PodSandboxStatus, request);
    EXPECT_OK(answer);
    return Parsed(answer.value_or(cri::PodSandboxStatusResponse()).info());
  }
  base::Json ContainerInfo(const std::string& container) const {
    cri::ContainerStatusRequest request;
    request.set_container_id(container);
    request.set_verbose(true);
    const auto answer = client().Call(&RuntimeStub::ContainerStatus, request);
    EXPECT_OK(answer);
    return Parsed(answer.value_or(cri::ContainerStatusResponse()).info());
  }

 private:
  template <typename Map>
  static base::Json Parsed(const Map& info) {
    const auto found = info.find("info");
    EXPECT_NE(found, info.end());
    if (found == info.end()) return base::Json::object();
    const auto json = base::ParseJson(found->second);
    EXPECT_OK(json);
    return json.value_or(base::Json::object());
  }
};

TEST_F(VerboseTest, AContainersInfoHasItsPidSpecAndConfig) {
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("inspected"));
  ASSERT_OK_AND_ASSIGN(const std::string id, RunContainer(pod, "c", "exec sleep 4321"));
  base::Json info = ContainerInfo(id);
  EXPECT_EQ(info["sandboxID"], pod);
  EXPECT_EQ(info["privileged"], false);
  EXPECT_EQ(info["runtimeType"], "oci");
  EXPECT_EQ(info["runtimeHandler"], "crun");
  EXPECT_EQ(info["config"]["metadata"]["name"], "c");
  EXPECT_EQ(info["config"]["labels"]["container"], "c");
  EXPECT_EQ(info["runtimeSpec"]["process"]["args"][0], "sh");
  EXPECT_TRUE(info["runtimeSpec"]["linux"]["namespaces"].is_array());
  ASSERT_TRUE(info["pid"].is_number());
  ASSERT_OK_AND_ASSIGN(
      const std::string outside,
      RunProgram({"readlink", base::StrCat("/proc/", info["pid"].get<int>(), "/ns/pid")}));
  ASSERT_OK_AND_ASSIGN(const cri::ExecSyncResponse inside,
                       Exec(id, {"readlink", "/proc/self/ns/pid"}));
  EXPECT_EQ(inside.stdout(), outside);

  ASSERT_OK(StopContainer(id, 0));
  info = ContainerInfo(id);
  EXPECT_EQ(info["pid"], 0) << "a number that may be another process's by now";
  EXPECT_EQ(info["runtimeSpec"]["process"]["args"][0], "sh");
}

TEST_F(VerboseTest, APodsInfoHasItsNetworkAndWhatHoldsIt) {
  cri::RunPodSandboxRequest request = PodRequest("held");
  ASSERT_OK_AND_ASSIGN(const std::string plain, RunPod(request));
  base::Json info = PodInfo(plain);
  EXPECT_EQ(info["pid"], 0) << "no process holds it";
  EXPECT_EQ(info["runtimeHandler"], "crun");
  EXPECT_FALSE(info.contains("runtimeSpec"));
  EXPECT_THAT(info["netnsPath"].get<std::string>(), HasSubstr(plain));
  EXPECT_EQ(info["namespaces"]["net"], info["netnsPath"]);
  EXPECT_EQ(info["config"]["metadata"]["namespace"], "test");
  EXPECT_EQ(info["config"]["linux"]["security_context"]["namespace_options"]["pid"], "CONTAINER");
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatus status, PodStatus(plain));
  EXPECT_THAT(info["cniResult"].dump(), HasSubstr(status.network().ip()));

  request = PodRequest("shared");
  request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->set_pid(cri::POD);
  ASSERT_OK_AND_ASSIGN(const std::string shared, RunPod(request));
  info = PodInfo(shared);
  EXPECT_GT(info["pid"].get<int>(), 1);
  EXPECT_EQ(info["runtimeSpec"]["process"]["args"][1], "pause");
  ASSERT_OK(StopPod(shared));
  EXPECT_EQ(PodInfo(shared)["pid"], 0);
}

TEST_F(VerboseTest, WithoutVerboseThereIsNoInfo) {
  ASSERT_OK_AND_ASSIGN(const std::string pod, RunPod("quiet"));
  cri::PodSandboxStatusRequest request;
  request.set_pod_sandbox_id(pod);
  ASSERT_OK_AND_ASSIGN(const cri::PodSandboxStatusResponse answer,
                       client().Call(&RuntimeStub::PodSandboxStatus, request));
  EXPECT_EQ(answer.info().size(), 0u);
}

}  // namespace
}  // namespace test
