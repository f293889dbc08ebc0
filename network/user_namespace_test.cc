#include "network/user_namespace.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/files.h"
#include "base/mounts.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::HasSubstr;

constexpr base::IdMap kMap = {.uids = {.inside = 0, .outside = 100000, .length = 65536},
                              .gids = {.inside = 0, .outside = 200000, .length = 1000}};

std::string Holder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string() + "/crisp-init";
}

TEST(OutsideSysctlTest, OnlyThePingGroupsChange) {
  EXPECT_EQ(OutsideSysctl("/proc/sys/net/ipv4/ip_forward", "1", kMap), "1");
  const std::string path = "/proc/sys/net/ipv4/ping_group_range";
  EXPECT_EQ(OutsideSysctl(path, "0 0", kMap), "200000 200000");
  EXPECT_EQ(OutsideSysctl(path, "7\t999", kMap), "200007 200999");
  EXPECT_EQ(OutsideSysctl(path, "0 2147483647", kMap), "200000 200999");
  EXPECT_EQ(OutsideSysctl(path, "1 0", kMap), "1 0");  // None at all.
  EXPECT_EQ(OutsideSysctl(path, "x", kMap), "x");
}

TEST(NamespaceErrorTest, ALimitIsNamed) {
  EXPECT_EQ(NamespaceError(ENOSPC).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(NamespaceError(EUSERS).message()), HasSubstr("/proc/sys/user"));
  EXPECT_EQ(NamespaceError(EPERM).code(), absl::StatusCode::kUnknown);
}

class UserNamespaceTest : public testing::Test {
 protected:
  void SetUp() override { SKIP_UNLESS_ISOLATED(); }
  // All types, pinned in dir_.
  NamespaceSetup Setup() const {
    return {.pins = {{"net", dir_ / "net"},
                     {"ipc", dir_ / "ipc"},
                     {"uts", dir_ / "uts"},
                     {"user", dir_ / "user"}},
            .sysctls = {},
            .hostname = "inside",
            .user = NewUserNamespace{.map = kMap, .holder = Holder()}};
  }
  // What `command` prints in all namespaces of the setup, as their root.
  std::string Inside(const std::string& command) const {
    const base::Command nsenter = {
        .argv = {"/usr/bin/nsenter", "--user=" + (dir_ / "user"), "--net=" + (dir_ / "net"),
                 "--ipc=" + (dir_ / "ipc"), "--uts=" + (dir_ / "uts"), "/bin/sh", "-c", command},
        .env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}};
    const auto result = base::RunCommand(base::Context::Detached(absl::Seconds(30)), nsenter);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->out + result->err : "";
  }

  TempDir dir_;
};

TEST_F(UserNamespaceTest, OwnsTheOthersWhichAreSetUpAsUsual) {
  NamespaceSetup setup = Setup();
  setup.sysctls = {{"net.ipv4.ping_group_range", "0 5"}, {"kernel.shmmax", "1234567"}};
  const auto inodes = PinNamespaces(setup);
  ASSERT_TRUE(inodes.ok()) << inodes.status();
  EXPECT_EQ(inodes->size(), 4);
  for (const auto& [type, inode] : *inodes) {
    EXPECT_EQ(NamespaceInode(dir_ / type).value_or(0), inode) << type;
  }
  // Its root may change what belongs to it, so it owns it.
  EXPECT_EQ(Inside("cat /proc/sys/net/ipv4/ping_group_range; cat /proc/sys/kernel/shmmax; "
                   "hostname; hostname other && hostname; id -u"),
            "0\t5\n1234567\ninside\nother\n0\n");
  EXPECT_THAT(Inside("cat /proc/self/uid_map /proc/self/gid_map"),
              testing::ContainsRegex("0 +100000 +65536\n +0 +200000 +1000\n"));
  EXPECT_THAT(Inside("ip link set lo down && ip link set lo up && ip link show lo"),
              HasSubstr("LOOPBACK,UP"));
  for (const NamespacePin& pin : setup.pins) {
    EXPECT_TRUE(UnpinNamespace(pin.path).ok());
  }
  EXPECT_TRUE(base::ListDirectory(dir_.path()).value().empty());
}

TEST_F(UserNamespaceTest, ABadSetupLeavesNothing) {
  NamespaceSetup setup = Setup();
  setup.user.reset();
  EXPECT_EQ(PinNamespaces(setup).status().code(), absl::StatusCode::kInvalidArgument);
  setup = Setup();
  setup.pins.pop_back();
  EXPECT_EQ(PinNamespaces(setup).status().code(), absl::StatusCode::kInvalidArgument);
  setup = Setup();
  setup.user->map.uids.length = 0;  // The kernel refuses it.
  const absl::Status refused = PinNamespaces(setup).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("uid_map"));
  setup = Setup();
  setup.user->holder = "/no/such/program";
  EXPECT_FALSE(PinNamespaces(setup).ok());
  EXPECT_TRUE(base::ListDirectory(dir_.path()).value().empty());
}

TEST_F(UserNamespaceTest, AnExhaustedLimitIsSaid) {
  // In a user namespace of our own, whose limit is ours to set. Its processes may have none below.
  const auto inodes = PinNamespaces(Setup());
  ASSERT_TRUE(inodes.ok()) << inodes.status();
  EXPECT_THAT(Inside("echo 0 > /proc/sys/user/max_net_namespaces && " + Holder() +
                     " hold --net < /dev/null; echo status $?"),
              HasSubstr("status 3"));
  for (const NamespacePin& pin : Setup().pins) {
    EXPECT_TRUE(UnpinNamespace(pin.path).ok());
  }
}

TEST_F(UserNamespaceTest, FilesHaveTheNamespacesIdsBelowAnIdmappedMount) {
  const auto inodes = PinNamespaces(Setup());
  ASSERT_TRUE(inodes.ok()) << inodes.status();
  const base::UserNamespace user = {.path = dir_ / "user", .map = kMap};
  for (const char* name : {"source", "place"}) {
    ASSERT_TRUE(base::MakeDirectories(dir_ / name).ok());
  }
  ASSERT_TRUE(base::ReplaceFile(dir_ / "source/file", "x", 0600, base::Durability::kVolatile).ok());
  const absl::Status bound =
      base::BindIdmapped(dir_ / "source", user, dir_ / "place", base::Submounts::kWith);
  ASSERT_TRUE(bound.ok()) << bound;
  struct stat status = {};
  EXPECT_EQ(stat((dir_ / "place/file").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 100000U);
  EXPECT_EQ(status.st_gid, 200000U);
  EXPECT_EQ(stat((dir_ / "source/file").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0U);
  EXPECT_TRUE(base::Unmount(dir_ / "place").ok());
  const absl::Status refused =
      base::BindIdmapped("/proc/sys", user, dir_ / "place", base::Submounts::kWith);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("(proc) cannot be id-mapped"));
  for (const NamespacePin& pin : Setup().pins) {
    EXPECT_TRUE(UnpinNamespace(pin.path).ok());
  }
}

}  // namespace
}  // namespace network
