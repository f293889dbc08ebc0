#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtimeservice/spec/spec_test_input.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class SpecMountsTest : public ::testing::Test, public TestInput {
 protected:
  std::vector<std::string> Destinations() const {
    std::vector<std::string> result;
    for (const OrderedJson& mount : At(Spec(), "/mounts")) {
      result.push_back(mount["destination"]);
    }
    return result;
  }
  // The last mount at `destination`; null if there is none.
  OrderedJson MountAt(const std::string& destination) const {
    OrderedJson result;
    for (const OrderedJson& mount : At(Spec(), "/mounts")) {
      if (mount["destination"] == destination) {
        result = mount;
      }
    }
    return result;
  }
  std::vector<std::string> OptionsAt(const std::string& destination) const {
    const OrderedJson mount = MountAt(destination);
    return mount.is_object() ? mount["options"].get<std::vector<std::string>>()
                             : std::vector<std::string>();
  }
  void ExpectRefused(absl::StatusCode code, const std::string& field) const {
    const absl::Status status = Build().status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
};

TEST_F(SpecMountsTest, DefaultsAreTheKernelsFileSystems) {
  EXPECT_THAT(Destinations(), ElementsAre("/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup",
                                          "/dev/mqueue", "/dev/shm"));
  EXPECT_THAT(OptionsAt("/sys"), ElementsAre("nosuid", "noexec", "nodev", "ro"));
  EXPECT_THAT(OptionsAt("/sys/fs/cgroup"), Contains("ro"));
  EXPECT_THAT(OptionsAt("/proc"), ElementsAre("nosuid", "noexec", "nodev"));
}

TEST_F(SpecMountsTest, PrivilegedMayWriteToSys) {
  MakePrivileged();
  EXPECT_THAT(OptionsAt("/sys"), Contains("rw"));
  EXPECT_THAT(OptionsAt("/sys/fs/cgroup"), Contains("rw"));
}

TEST_F(SpecMountsTest, PodFilesAreBound) {
  pod_files = {"/pod/resolv.conf", "/pod/hostname", "/pod/hosts", "/pod/shm"};
  EXPECT_EQ(MountAt("/etc/resolv.conf")["source"], "/pod/resolv.conf");
  EXPECT_EQ(MountAt("/etc/hostname")["source"], "/pod/hostname");
  EXPECT_EQ(MountAt("/etc/hosts")["source"], "/pod/hosts");
  EXPECT_EQ(MountAt("/dev/shm")["source"], "/pod/shm");
  EXPECT_THAT(OptionsAt("/etc/hosts"), Contains("rw"));
  mutable_security()->set_readonly_rootfs(true);
  EXPECT_THAT(OptionsAt("/etc/hosts"), Contains("ro"));
  EXPECT_THAT(OptionsAt("/dev/shm"), Contains("rw"));
}

TEST_F(SpecMountsTest, HostIpcSharesTheHostsMemory) {
  pod_files.shm = "/pod/shm";
  mutable_pod_namespaces()->set_ipc(cri::NODE);
  EXPECT_EQ(MountAt("/dev/shm")["source"], "/dev/shm");
  EXPECT_EQ(MountAt("/dev/mqueue")["type"], "mqueue");
}

TEST_F(SpecMountsTest, RequestedMountsReplaceDefaults) {
  pod_files = {"/pod/resolv.conf", "/pod/hostname", "/pod/hosts", "/pod/shm"};
  AddMount("/host/hosts", "/etc/hosts");
  AddMount("/host/shm", "/dev/shm/");
  AddMount("/sys/fs/cgroup", "/sys/fs/cgroup");
  EXPECT_EQ(MountAt("/etc/hosts")["source"], "/host/hosts");
  EXPECT_EQ(MountAt("/dev/shm")["source"], "/host/shm");
  EXPECT_EQ(MountAt("/sys/fs/cgroup")["type"], "bind");
  const std::vector<std::string> all = Destinations();
  EXPECT_EQ(std::count(all.begin(), all.end(), "/etc/hosts"), 1);
  EXPECT_EQ(std::count(all.begin(), all.end(), "/dev/shm"), 1);
}

TEST_F(SpecMountsTest, TheHostsDevAndSysStayWhole) {
  AddMount("/dev", "/dev");
  AddMount("/sys", "/sys");
  EXPECT_THAT(Destinations(), ElementsAre("/proc", "/dev", "/sys"));
}

TEST_F(SpecMountsTest, ParentsComeFirst) {
  pod_files.hosts = "/pod/hosts";
  AddMount("/1", "/a/b/c");
  AddMount("/2", "/a");
  AddMount("/3", "/etc");
  AddMount("/4", "a/./x/../b");
  const std::vector<std::string> all = Destinations();
  EXPECT_THAT(std::vector<std::string>(all.end() - 5, all.end()),
              ElementsAre("/a", "/etc", "/etc/hosts", "/a/b", "/a/b/c"));
}

TEST_F(SpecMountsTest, OfTwoRequestsForOnePlaceTheLastWins) {
  AddMount("/first", "/a");
  AddMount("/second", "/a/");
  EXPECT_EQ(MountAt("/a")["source"], "/second");
  const std::vector<std::string> all = Destinations();
  EXPECT_EQ(std::count(all.begin(), all.end(), "/a"), 1);
}

TEST_F(SpecMountsTest, OptionsFollowTheRequest) {
  cri::Mount* mount = AddMount("/source", "/a");
  EXPECT_THAT(OptionsAt("/a"), ElementsAre("rbind", "rprivate", "rw"));
  EXPECT_EQ(At(Spec(), "/linux/rootfsPropagation"), "rprivate");
  mount->set_readonly(true);
  EXPECT_THAT(OptionsAt("/a"), ElementsAre("rbind", "rprivate", "ro"));
  mount->set_propagation(cri::PROPAGATION_HOST_TO_CONTAINER);
  EXPECT_THAT(OptionsAt("/a"), ElementsAre("rbind", "rslave", "ro"));
  EXPECT_EQ(At(Spec(), "/linux/rootfsPropagation"), "rslave");
  AddMount("/other", "/b")->set_propagation(cri::PROPAGATION_BIDIRECTIONAL);
  EXPECT_THAT(OptionsAt("/b"), Contains("rshared"));
  EXPECT_EQ(At(Spec(), "/linux/rootfsPropagation"), "rshared");
}

TEST_F(SpecMountsTest, RecursiveReadOnlyNeedsARuntimeThatCan) {
  cri::Mount* mount = AddMount("/source", "/a");
  mount->set_readonly(true);
  mount->set_recursive_read_only(true);
  ExpectRefused(absl::StatusCode::kFailedPrecondition,
                "RROUnsupported: mounts[0].recursive_read_only");
  handler.recursive_read_only = true;
  EXPECT_THAT(OptionsAt("/a"), Contains("rro"));
  mount->set_readonly(false);
  ExpectRefused(absl::StatusCode::kInvalidArgument, "mounts[0].recursive_read_only");
}

TEST_F(SpecMountsTest, ReadOnlyIsRecursiveForAFile) {
  cri::Mount* mount = AddMount("/source", "/a");
  mount->set_readonly(true);
  mount->set_recursive_read_only(true);
  handler.recursive_read_only = true;
  mounts[0].directory = false;
  EXPECT_THAT(OptionsAt("/a"), ElementsAre("rbind", "rprivate", "ro"));
}

TEST_F(SpecMountsTest, AnImageVolumeIsBoundReadOnly) {
  cri::Mount* mount = AddMount("", "/volume");
  mount->mutable_image()->set_image("busybox");
  mount->set_readonly(true);
  mount->set_recursive_read_only(true);  // Holds for any runtime: nothing is mounted below it.
  mounts[0].path = "/run/volumes/0/data";
  EXPECT_EQ(MountAt("/volume")["source"], "/run/volumes/0/data");
  EXPECT_THAT(OptionsAt("/volume"), ElementsAre("rbind", "rprivate", "ro", "nosuid", "nodev"));
}

TEST_F(SpecMountsTest, ImageVolumesThatContradictThemselvesAreRefusedByName) {
  const auto refused = [&](auto&& change, const std::string& field) {
    container.clear_mounts();
    mounts.clear();
    cri::Mount* mount = AddMount("", "/volume");
    mount->mutable_image()->set_image("busybox");
    mount->set_readonly(true);
    change(mount);
    ExpectRefused(absl::StatusCode::kInvalidArgument,
                  "ImageVolumeMountFailed: mounts[0]." + field + ": ");
  };
  refused([](cri::Mount* mount) { mount->set_readonly(false); }, "readonly");
  refused([](cri::Mount* mount) { mount->set_host_path("/etc"); }, "host_path");
  refused([](cri::Mount* mount) { mount->set_propagation(cri::PROPAGATION_BIDIRECTIONAL); },
          "propagation");
  for (const std::string path : {"/data", "..", "a/..", "a/../b", "../a"}) {
    refused([&](cri::Mount* mount) { mount->set_image_sub_path(path); }, "image_sub_path");
  }
  container.mutable_mounts(0)->set_image_sub_path("..a/.../b..");  // Names like others.
  EXPECT_TRUE(Build().ok()) << Build().status();
  AddMount("/source", "/a")->set_image_sub_path("data");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "mounts[1].image_sub_path: ");
}

TEST_F(SpecMountsTest, SenselessMountsAreRefusedByName) {
  AddMount("/fine", "/fine");
  cri::Mount* mount = AddMount("/source", "/");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "mounts[1].container_path");
  mount->set_container_path("");
  ExpectRefused(absl::StatusCode::kInvalidArgument, "mounts[1].container_path");
}

TEST_F(SpecMountsTest, PathsCannotClimb) {
  AddMount("/source", "/../../a/../b");
  EXPECT_THAT(Destinations(), Contains("/b"));
  EXPECT_THAT(Destinations(), Not(Contains(HasSubstr(".."))));
}

}  // namespace
}  // namespace runtimeservice
