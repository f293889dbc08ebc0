#include "runtimeservice/spec/host_sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstdlib>
#include <filesystem>

#include "base/files.h"
#include "base/mounts.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;

class HostSourcesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-sources-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override {
    mount_ = base::ScopedMount();
    std::filesystem::remove_all(folder_);
  }

  cri::Mount* AddMount(const std::string& source) {
    cri::Mount* mount = config_.add_mounts();
    mount->set_host_path(source);
    mount->set_container_path("/data");
    return mount;
  }
  // A tmpfs at `<folder>/mount` with the propagation `flag`.
  std::string MountWith(unsigned long flag) {
    const std::string path = folder_ + "/mount";
    EXPECT_TRUE(base::MakeDirectories(path).ok());
    EXPECT_TRUE(base::MountTmpfs(path, 1 << 20, 0755).ok());
    mount_ = base::ScopedMount(path);
    EXPECT_EQ(mount(nullptr, path.c_str(), nullptr, flag, nullptr), 0);
    return path;
  }
  void ExpectMountRefused(absl::StatusCode code, const std::string& text) const {
    const absl::Status status = ResolveMountSources(config_).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }

  cri::ContainerConfig config_;
  std::string folder_;
  base::ScopedMount mount_;
};

TEST_F(HostSourcesTest, SymlinksAreResolved) {
  ASSERT_TRUE(base::MakeDirectories(folder_ + "/real").ok());
  std::filesystem::create_symlink("real", folder_ + "/link");
  AddMount(folder_ + "/link");
  EXPECT_EQ(ResolveMountSources(config_)->at(0).path, folder_ + "/real");
}

TEST_F(HostSourcesTest, MissingDirectoriesAreMade) {
  AddMount(folder_ + "/a/b");
  EXPECT_EQ(ResolveMountSources(config_)->at(0).path, folder_ + "/a/b");
  EXPECT_TRUE(std::filesystem::is_directory(folder_ + "/a/b"));
}

TEST_F(HostSourcesTest, RelativeSourceIsRefusedByName) {
  AddMount(folder_);
  AddMount("relative");
  ExpectMountRefused(absl::StatusCode::kInvalidArgument, "mounts[1].host_path");
}

TEST_F(HostSourcesTest, ContradictoryOptionsAreRefusedByName) {
  cri::Mount* mount = AddMount(folder_);
  mount->set_recursive_read_only(true);
  ExpectMountRefused(absl::StatusCode::kInvalidArgument, "mounts[0].recursive_read_only");
  mount->set_readonly(true);
  EXPECT_TRUE(ResolveMountSources(config_).ok());
  mount->set_propagation(cri::PROPAGATION_HOST_TO_CONTAINER);
  ExpectMountRefused(absl::StatusCode::kInvalidArgument, "mounts[0].recursive_read_only");
  mount->set_recursive_read_only(false);
  mount->set_container_path("/..");
  ExpectMountRefused(absl::StatusCode::kInvalidArgument, "mounts[0].container_path");
}

TEST_F(HostSourcesTest, BidirectionalNeedsASharedMount) {
  cri::Mount* mount = AddMount(MountWith(MS_PRIVATE));
  mount->set_propagation(cri::PROPAGATION_BIDIRECTIONAL);
  ExpectMountRefused(absl::StatusCode::kFailedPrecondition, "mounts[0].propagation");
  mount_ = base::ScopedMount();
  MountWith(MS_SHARED);
  EXPECT_TRUE(ResolveMountSources(config_).ok());
}

TEST_F(HostSourcesTest, HostToContainerNeedsASharedOrSlaveMount) {
  const std::string path = MountWith(MS_PRIVATE);
  cri::Mount* requested = AddMount(path + "/sub");
  requested->set_propagation(cri::PROPAGATION_HOST_TO_CONTAINER);
  ExpectMountRefused(absl::StatusCode::kFailedPrecondition, "mounts[0].propagation");
  ASSERT_EQ(mount(nullptr, path.c_str(), nullptr, MS_SHARED, nullptr), 0);
  EXPECT_TRUE(ResolveMountSources(config_).ok());
}

}  // namespace
}  // namespace runtimeservice
