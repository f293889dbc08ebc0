#include "runtimeservice/spec/device_nodes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/files.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class DeviceNodesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-devices-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  cri::Device* AddDevice(const std::string& path) {
    cri::Device* device = config_.add_devices();
    device->set_host_path(path);
    return device;
  }
  cri::LinuxContainerSecurityContext* mutable_security() {
    return config_.mutable_linux()->mutable_security_context();
  }

  cri::ContainerConfig config_;
  std::string folder_;
};

TEST_F(DeviceNodesTest, ADeviceKeepsItsNumbersAndIsRenamed) {
  cri::Device* device = AddDevice("/dev/null");
  device->set_container_path("dev/./mine");
  device->set_permissions("r");
  const absl::StatusOr<std::vector<DeviceNode>> nodes = ResolveDevices(config_);
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  ASSERT_EQ(nodes->size(), 1);
  EXPECT_EQ(nodes->front().path, "/dev/mine");
  EXPECT_EQ(nodes->front().type, 'c');
  EXPECT_EQ(nodes->front().major, 1);
  EXPECT_EQ(nodes->front().minor, 3);
  EXPECT_EQ(nodes->front().access, "r");
}

TEST_F(DeviceNodesTest, ADirectoryIsEveryDeviceInIt) {
  ASSERT_TRUE(base::MakeDirectories(folder_ + "/sub").ok());
  ASSERT_EQ(mknod((folder_ + "/one").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
  ASSERT_EQ(mknod((folder_ + "/sub/two").c_str(), S_IFBLK | 0600, makedev(7, 200)), 0);
  ASSERT_TRUE(base::ReplaceFile(folder_ + "/file", "", 0600, base::Durability::kVolatile).ok());
  std::filesystem::create_symlink("/dev/zero", folder_ + "/link");
  AddDevice(folder_)->set_container_path("/dev/all");
  const absl::StatusOr<std::vector<DeviceNode>> nodes = ResolveDevices(config_);
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  ASSERT_EQ(nodes->size(), 2);
  EXPECT_EQ(nodes->at(0).path, "/dev/all/one");
  EXPECT_EQ(nodes->at(1).path, "/dev/all/sub/two");
  EXPECT_EQ(nodes->at(1).type, 'b');
}

TEST_F(DeviceNodesTest, BadDevicesAreRefusedByName) {
  const auto expect_refused = [this](const std::string& text) {
    const absl::Status status = ResolveDevices(config_).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    config_.clear_devices();
  };
  AddDevice("/dev/null");
  AddDevice("/dev/no-such-device");
  expect_refused("devices[1].host_path");
  for (const char* permissions : {"rx", "rr", "rwmr", "R"}) {
    AddDevice("/dev/null")->set_permissions(permissions);
    expect_refused("devices[0].permissions");
  }
  AddDevice("dev/null");
  expect_refused("devices[0].host_path");
  AddDevice("/dev/null")->set_container_path("/..");
  expect_refused("devices[0].container_path");
  AddDevice("/etc/passwd");
  expect_refused("devices[0].host_path");
}

TEST_F(DeviceNodesTest, PrivilegedHasTheHostsDevicesButNotTheRuntimes) {
  config_.mutable_linux()->mutable_security_context()->set_privileged(true);
  if (!base::Exists("/dev/kmsg")) {
    GTEST_SKIP() << "SKIP: /dev/kmsg";
  }
  const absl::StatusOr<std::vector<DeviceNode>> nodes = ResolveDevices(config_);
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  std::vector<std::string> paths;
  for (const DeviceNode& node : *nodes) {
    paths.push_back(node.path);
  }
  EXPECT_THAT(paths, ::testing::Contains("/dev/kmsg"));
  EXPECT_THAT(paths, Not(::testing::Contains("/dev/null")));
  EXPECT_THAT(paths, Not(::testing::Contains(HasSubstr("/dev/pts/"))));
  EXPECT_TRUE(ResolveDevices(config_, HostDevices::kLeaveOut)->empty());
}

TEST_F(DeviceNodesTest, ASymlinkToADeviceIsTheDevice) {
  std::filesystem::create_symlink("/dev/zero", folder_ + "/link");
  AddDevice(folder_ + "/link")->set_container_path("/dev/z");
  const absl::StatusOr<std::vector<DeviceNode>> nodes = ResolveDevices(config_);
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  EXPECT_EQ(nodes->at(0).path, "/dev/z");
  EXPECT_EQ(nodes->at(0).minor, 5);
}

TEST_F(DeviceNodesTest, OfTwoDevicesAtOnePathTheLaterStays) {
  AddDevice("/dev/null")->set_container_path("/dev/one");
  AddDevice("/dev/zero")->set_container_path("/dev//one");
  const std::vector<DeviceNode> nodes = WithoutRepeats(ResolveDevices(config_).value());
  ASSERT_EQ(nodes.size(), 1);
  EXPECT_EQ(nodes.front().minor, 5);
}

TEST_F(DeviceNodesTest, APrivilegedContainersDeviceCoversNoneOfTheHosts) {
  mutable_security()->set_privileged(true);
  AddDevice("/dev/null")->set_container_path("/dev/zero");
  const absl::Status status = ResolveDevices(config_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("devices[0].container_path"));
  EXPECT_TRUE(ResolveDevices(config_, HostDevices::kLeaveOut).ok());
  config_.mutable_devices(0)->set_container_path("/dev/crisp-no-such-device");
  EXPECT_TRUE(ResolveDevices(config_).ok());
  config_.mutable_devices(0)->set_container_path("/dev/null");
  EXPECT_TRUE(ResolveDevices(config_).ok());
}

TEST_F(DeviceNodesTest, OwnershipFollowsTheSecurityContextWhereThatNamesSomebody) {
  const std::string device = folder_ + "/device";
  ASSERT_EQ(mknod(device.c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
  ASSERT_EQ(chown(device.c_str(), 5, 6), 0);
  AddDevice(folder_)->set_container_path("/dev/all");
  mutable_security()->mutable_run_as_user()->set_value(1000);
  const auto owner = [&](DeviceOwnership ownership) {
    const DeviceNode node =
        ResolveDevices(config_, HostDevices::kIfPrivileged, ownership).value().at(0);
    return std::pair(node.uid, node.gid);
  };
  EXPECT_EQ(owner(DeviceOwnership::kHost), std::pair(5U, 6U));
  EXPECT_EQ(owner(DeviceOwnership::kSecurityContext), std::pair(1000U, 6U));
  mutable_security()->mutable_run_as_group()->set_value(2000);
  EXPECT_EQ(owner(DeviceOwnership::kSecurityContext), std::pair(1000U, 2000U));
}

TEST_F(DeviceNodesTest, DevicesOfTheConfigurationAreRead) {
  const auto parse = [](const char* text) {
    const absl::StatusOr<DeviceRequest> request = ParseDeviceRequest(text);
    return request.ok() ? request->host_path + " " + request->container_path + " " + request->access
                        : std::string(request.status().message());
  };
  EXPECT_EQ(parse("/dev/fuse"), "/dev/fuse  ");
  EXPECT_EQ(parse("/dev/fuse:/dev/x"), "/dev/fuse /dev/x ");
  EXPECT_EQ(parse("/dev/fuse:rw"), "/dev/fuse  rw");
  EXPECT_EQ(parse("/host/fuse:/dev/x:m"), "/host/fuse /dev/x m");
  EXPECT_EQ(parse("/dev/fuse::r"), "/dev/fuse  r");
  for (const char* bad : {"", ":", "fuse", "/dev/fuse:x", "/dev/fuse:/dev/x:z", "/dev/fuse:/dev/x:",
                          "/host/fuse", "/dev/a:/etc/passwd", "/dev/a:/dev/../etc/passwd",
                          "/dev/a:/dev/b:r:w", "/dev/fuse:/dev/x:rr"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseDeviceRequest(bad).status())) << bad;
  }
}

}  // namespace
}  // namespace runtimeservice
