#include "runtimeservice/devices/container_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace runtimeservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ContainerDevicesTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<std::string>> Plan() {
    absl::StatusOr<PlannedDevices> planned =
        ContainerDevices(config_).Plan(pod_, container_, handler_);
    if (!planned.ok()) {
      return planned.status();
    }
    std::vector<std::string> nodes;
    for (const DeviceNode& node : planned->nodes) {
      nodes.push_back(node.path + " " + std::to_string(node.minor) + " " + node.access);
    }
    return nodes;
  }
  void ExpectRefused(absl::StatusCode code, const std::string& what) {
    const absl::Status status = Plan().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }
  void Annotate(const std::string& value, const char* name = "io.kubernetes.cri-o.Devices") {
    (*pod_.mutable_annotations())[name] = value;
  }

  DeviceConfig config_;
  cri::PodSandboxConfig pod_;
  cri::ContainerConfig container_;
  HandlerTraits handler_;
};

TEST_F(ContainerDevicesTest, EveryContainerGetsTheConfiguredDevices) {
  config_.additional_devices = {{"/dev/null", "/dev/more", "r"}, {"/dev/zero", "", ""}};
  EXPECT_THAT(Plan().value(), ElementsAre("/dev/more 3 r", "/dev/zero 5 rwm"));
}

TEST_F(ContainerDevicesTest, AConfiguredDeviceThatIsNotThereIsNamed) {
  config_.additional_devices = {{"/dev/crisp-none", "", ""}};
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "additional_devices");
  ExpectRefused(absl::StatusCode::kFailedPrecondition, "/dev/crisp-none");
}

TEST_F(ContainerDevicesTest, TheAnnotationCountsWhereTheHandlerAllowsIt) {
  config_.allowed_devices = {"/dev/null", "/dev/zero"};
  Annotate("/dev/null:/dev/a:r,,/dev/zero:/dev/b");
  EXPECT_THAT(Plan().value(), ElementsAre());
  handler_.allowed_annotations = {"other", ""};
  EXPECT_THAT(Plan().value(), ElementsAre());
  for (const char* allowed :
       {"io.kubernetes.cri-o.Devices", "io.kubernetes.cri-o.", "devices.crio.io"}) {
    handler_.allowed_annotations = {allowed};
    EXPECT_THAT(Plan().value(), ElementsAre("/dev/a 3 r", "/dev/b 5 rwm")) << allowed;
  }
  pod_.clear_annotations();
  Annotate("/dev/zero:/dev/new", "devices.crio.io");
  EXPECT_THAT(Plan().value(), ElementsAre("/dev/new 5 rwm"));
}

TEST_F(ContainerDevicesTest, TheAnnotationGetsAllowedDevicesOnly) {
  config_.allowed_devices = {"/dev/null"};
  handler_.allowed_annotations = {"io.kubernetes.cri-o.Devices"};
  const auto invalid = absl::StatusCode::kInvalidArgument;
  Annotate("/dev/zero");
  ExpectRefused(invalid, "annotations[\"io.kubernetes.cri-o.Devices\"]: /dev/zero");
  Annotate("/dev/./null");
  ExpectRefused(invalid, "allowed_devices");
  Annotate("/dev/null:/etc/passwd");
  ExpectRefused(invalid, "annotations[\"io.kubernetes.cri-o.Devices\"]: want");
  config_.allowed_devices = {"/dev/crisp-none"};
  Annotate("/dev/crisp-none");
  ExpectRefused(invalid, "annotations[\"io.kubernetes.cri-o.Devices\"]: host_path");
}

TEST_F(ContainerDevicesTest, LaterSourcesReplaceEarlierOnes) {
  config_.additional_devices = {
      {"/dev/full", "/dev/a", ""}, {"/dev/full", "/dev/b", ""}, {"/dev/full", "/dev/c", ""}};
  config_.allowed_devices = {"/dev/null"};
  handler_.allowed_annotations = {"io.kubernetes.cri-o.Devices"};
  Annotate("/dev/null:/dev/a,/dev/null:/dev/b");
  container_.add_devices()->set_host_path("/dev/zero");
  container_.mutable_devices(0)->set_container_path("/dev/b");
  EXPECT_THAT(Plan().value(), ElementsAre("/dev/a 3 rwm", "/dev/b 5 rwm", "/dev/c 7 rwm"));
}

TEST_F(ContainerDevicesTest, PrivilegedGetsTheHostsDevicesUnlessTheHandlerKeepsThem) {
  container_.mutable_linux()->mutable_security_context()->set_privileged(true);
  const size_t host = Plan().value().size();
  if (host == 0) {
    GTEST_SKIP() << "SKIP: a device in /dev besides the runtime's own";
  }
  handler_.privileged_host_devices = false;
  container_.add_devices()->set_host_path("/dev/null");
  EXPECT_THAT(Plan().value(), ElementsAre("/dev/null 3 rwm"));
}

TEST_F(ContainerDevicesTest, CdiDevicesAreLookedUpBeforeAnythingIsMade) {
  container_.add_cdi_devices()->set_name("v.example/c=none");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "CDI_devices[0].name");
}

}  // namespace
}  // namespace runtimeservice
