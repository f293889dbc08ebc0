#include "network/netns.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Key;

std::string OwnNamespace(const std::string& type) {
  return std::filesystem::read_symlink(base::StrCat("/proc/thread-self/ns/", type)).string();
}

bool LoopbackIsUp() {
  const base::UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = {};
  std::strcpy(request.ifr_name, "lo");
  return ioctl(any.get(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
}

// The lines of mountinfo whose mount point is `path`.
std::vector<std::string> MountsAt(const std::string& path) {
  std::vector<std::string> found;
  for (const std::string& line : ReadLines("/proc/self/mountinfo")) {
    if (line.find(base::StrCat(" ", path, " ")) != std::string::npos) {
      found.push_back(line);
    }
  }
  return found;
}

class NetnsTest : public testing::Test {
 protected:
  void SetUp() override { SKIP_UNLESS_ISOLATED(); }
  NamespaceSetup All() const {
    return {.pins = {{"net", dir_ / "net"}, {"ipc", dir_ / "deep/er/ipc"}, {"uts", dir_ / "uts"}},
            .sysctls = {},
            .hostname = ""};
  }

  TempDir dir_;
};

TEST_F(NetnsTest, PathIsNamedAfterThePod) {
  const base::PodId pod = base::PodId::Random();
  EXPECT_EQ(NetnsPath("/run/netns", pod), "/run/netns/crisp-" + pod.str());
}

TEST_F(NetnsTest, PinsAreNewNamespacesWithTheReturnedInodes) {
  const auto inodes = PinNamespaces(All());
  ASSERT_TRUE(inodes.ok()) << inodes.status();
  EXPECT_THAT(*inodes, ElementsAre(Key("ipc"), Key("net"), Key("uts")));
  for (const NamespacePin& pin : All().pins) {
    struct stat facts = {};
    ASSERT_EQ(stat(pin.path.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_ino, inodes->at(pin.type));
    EXPECT_EQ(*NamespaceInode(pin.path), inodes->at(pin.type));
    EXPECT_NE(OwnNamespace(pin.type), base::StrCat(pin.type, ":[", inodes->at(pin.type), "]"));
    InNamespace(pin.path, [&] {
      EXPECT_EQ(OwnNamespace(pin.type), base::StrCat(pin.type, ":[", inodes->at(pin.type), "]"));
    });
  }
}

TEST_F(NetnsTest, CallerStaysInItsNamespacesAndNoThreadIsLeft) {
  const std::string before = OwnNamespace("net") + OwnNamespace("ipc") + OwnNamespace("uts");
  const auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                         std::filesystem::directory_iterator());
  };
  const auto threads_before = threads();
  ASSERT_TRUE(PinNamespaces(All()).ok());
  EXPECT_EQ(OwnNamespace("net") + OwnNamespace("ipc") + OwnNamespace("uts"), before);
  EXPECT_TRUE(Eventually([&] { return threads() == threads_before; }));
}

TEST_F(NetnsTest, LoopbackIsUpInANewNetworkNamespace) {
  ASSERT_TRUE(PinNamespaces({.pins = {{"net", dir_ / "net"}}, .sysctls = {}, .hostname = ""}).ok());
  bool up = false;
  InNamespace(dir_ / "net", [&] { up = LoopbackIsUp(); });
  EXPECT_TRUE(up);
}

TEST_F(NetnsTest, HostNameAndSysctlsAreSetInsideOnly) {
  constexpr char kPort[] = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
  constexpr char kShm[] = "/proc/sys/kernel/shm_rmid_forced";
  constexpr char kMsg[] = "/proc/sys/fs/mqueue/msg_max";
  char host[65] = {};
  gethostname(host, sizeof(host));
  const std::string outside = ReadTestFile(kPort) + ReadTestFile(kShm) + ReadTestFile(kMsg);
  NamespaceSetup setup = All();
  setup.hostname = "web-0";
  setup.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "77"},
                   {"kernel.shm_rmid_forced", "1"},
                   {"fs.mqueue.msg_max", "99"}};
  const auto inodes = PinNamespaces(setup);
  ASSERT_TRUE(inodes.ok()) << inodes.status();
  InNamespace(dir_ / "net", [&] { EXPECT_EQ(ReadTestFile(kPort), "77\n"); });
  InNamespace(dir_ / "deep/er/ipc", [&] {
    EXPECT_EQ(ReadTestFile(kShm), "1\n");
    EXPECT_EQ(ReadTestFile(kMsg), "99\n");
  });
  InNamespace(dir_ / "uts", [&] {
    char inside[65] = {};
    gethostname(inside, sizeof(inside));
    EXPECT_STREQ(inside, "web-0");
  });
  char after[65] = {};
  gethostname(after, sizeof(after));
  EXPECT_STREQ(after, host);
  EXPECT_EQ(ReadTestFile(kPort) + ReadTestFile(kShm) + ReadTestFile(kMsg), outside);
}

TEST_F(NetnsTest, FailureLeavesNoPin) {
  NamespaceSetup setup = All();
  setup.sysctls = {{"net.ipv4.no_such_parameter", "1"}};
  const auto inodes = PinNamespaces(setup);
  EXPECT_THAT(std::string(inodes.status().message()), HasSubstr("net.ipv4.no_such_parameter"));
  for (const NamespacePin& pin : setup.pins) {
    EXPECT_FALSE(base::Exists(pin.path));
    EXPECT_TRUE(MountsAt(pin.path).empty());
  }
}

TEST_F(NetnsTest, PinLeftOverFromACrashIsReplaced) {
  WriteTestFile(dir_ / "uts", "");
  ASSERT_TRUE(PinNamespaces(All()).ok());
  ASSERT_TRUE(PinNamespaces(All()).ok());
  EXPECT_EQ(MountsAt(dir_ / "uts").size(), 1u);
  ASSERT_TRUE(UnpinNamespace(dir_ / "uts").ok());
  EXPECT_FALSE(base::Exists(dir_ / "uts"));
}

TEST_F(NetnsTest, UnpinMayBeRepeatedAndNeedsNoPin) {
  const base::PodId pod = base::PodId::Random();
  const std::string path = NetnsPath(dir_.path(), pod);
  ASSERT_TRUE(PinNamespaces({.pins = {{"net", path}}, .sysctls = {}, .hostname = ""}).ok());
  EXPECT_TRUE(UnpinNetns(dir_.path(), pod).ok());
  EXPECT_FALSE(base::Exists(path));
  EXPECT_TRUE(UnpinNetns(dir_.path(), pod).ok());
  EXPECT_TRUE(UnpinNamespace(dir_ / "no/such/folder").ok());
}

TEST_F(NetnsTest, InodeTellsAPinFromAFileAndFromNothing) {
  WriteTestFile(dir_ / "file", "");
  EXPECT_TRUE(absl::IsFailedPrecondition(NamespaceInode(dir_ / "file").status()));
  EXPECT_TRUE(absl::IsNotFound(NamespaceInode(dir_ / "none").status()));
}

TEST_F(NetnsTest, UnsoundSetupIsRefused) {
  const std::string path = dir_ / "x";
  const NamespaceSetup unsound[] = {
      {.pins = {{"mnt", path}}, .sysctls = {}, .hostname = ""},
      {.pins = {{"net", path}, {"net", path + "2"}}, .sysctls = {}, .hostname = ""},
      {.pins = {{"net", path}}, .sysctls = {}, .hostname = "web"},
      {.pins = {{"net", path}}, .sysctls = {{"kernel.shmmax", "1"}}, .hostname = ""},
      {.pins = {{"ipc", path}}, .sysctls = {{"net.core.somaxconn", "1"}}, .hostname = ""},
      {.pins = {{"net", path}}, .sysctls = {{"vm.swappiness", "1"}}, .hostname = ""}};
  for (const NamespaceSetup& setup : unsound) {
    EXPECT_TRUE(absl::IsInvalidArgument(PinNamespaces(setup).status()));
    EXPECT_FALSE(base::Exists(path));
  }
}

TEST_F(NetnsTest, DirectoryOnAPrivateMountBecomesASharedMountOnce) {
  const std::string directory = dir_ / "netns";
  ASSERT_TRUE(PrepareNetnsDirectory(directory).ok());
  ASSERT_TRUE(PrepareNetnsDirectory(directory).ok());
  const std::vector<std::string> mounts = MountsAt(directory);
  ASSERT_EQ(mounts.size(), 1u);
  EXPECT_THAT(mounts[0], HasSubstr(" shared:"));
}

TEST_F(NetnsTest, MountPointIsMadeSharedInPlace) {
  const std::string directory = dir_ / "netns";
  std::filesystem::create_directory(directory);
  ASSERT_EQ(mount("tmpfs", directory.c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(mount(nullptr, directory.c_str(), nullptr, MS_PRIVATE, nullptr), 0);
  ASSERT_TRUE(PrepareNetnsDirectory(directory).ok());
  const std::vector<std::string> mounts = MountsAt(directory);
  ASSERT_EQ(mounts.size(), 1u);
  EXPECT_THAT(mounts[0], HasSubstr(" shared:"));
}

TEST_F(NetnsTest, DirectoryOnASharedMountIsLeftAlone) {
  const std::string shared = dir_ / "run";
  std::filesystem::create_directory(shared);
  ASSERT_EQ(mount("tmpfs", shared.c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(mount(nullptr, shared.c_str(), nullptr, MS_SHARED, nullptr), 0);
  ASSERT_TRUE(PrepareNetnsDirectory(shared + "/netns").ok());
  EXPECT_TRUE(std::filesystem::is_directory(shared + "/netns"));
  EXPECT_TRUE(MountsAt(shared + "/netns").empty());
}

TEST(SysctlTest, DotsAndSlashesSeparateAsInSysctl8) {
  EXPECT_EQ(*SysctlPath("net.ipv4.tcp_syncookies"), "/proc/sys/net/ipv4/tcp_syncookies");
  EXPECT_EQ(*SysctlPath("net.ipv4.conf.eth0/1.forwarding"),
            "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
  EXPECT_EQ(*SysctlPath("net/ipv4/conf/eth0.1/forwarding"),
            "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
}

TEST(SysctlTest, NamesThatLeaveProcSysAreRefused) {
  for (const char* name : {"", ".", "net..x", "net/../kernel/core_pattern", "net.//.core_pattern",
                           "net.ipv4.", ".net.x", "/net/x", "net/./x", "net.a b", "net.a\n"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(SysctlPath(name).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(SysctlNamespace(name).status())) << name;
  }
}

TEST(SysctlTest, OnlyNamespacedParametersBelongToAPod) {
  EXPECT_EQ(*SysctlNamespace("net.core.somaxconn"), "net");
  EXPECT_EQ(*SysctlNamespace("net/core/somaxconn"), "net");
  for (const char* name : {"kernel.shmmax", "kernel.shm_rmid_forced", "kernel.msgmnb", "kernel.sem",
                           "fs.mqueue.queues_max"}) {
    EXPECT_EQ(*SysctlNamespace(name), "ipc") << name;
  }
  for (const char* name : {"kernel.core_pattern", "kernel.semx", "kernel.sem.x", "fs.file-max",
                           "fs.mqueue", "vm.swappiness", "net", "kernel.shm.x"}) {
    EXPECT_FALSE(SysctlNamespace(name).ok()) << name;
  }
}

TEST_F(NetnsTest, AProcessesNamespaceCanBePinned) {
  const std::string path = dir_.path() + "/pid";
  const auto inode = PinProcessNamespace(getpid(), {.type = "pid", .path = path});
  ASSERT_TRUE(inode.ok()) << inode.status();
  EXPECT_EQ(*inode, *NamespaceInode("/proc/self/ns/pid"));
  EXPECT_EQ(*inode, *NamespaceInode(path));
  EXPECT_TRUE(UnpinNamespace(path).ok());
  EXPECT_TRUE(
      absl::IsNotFound(PinProcessNamespace(0x7ffffffe, {.type = "pid", .path = path}).status()));
  EXPECT_FALSE(base::Exists(path));
}

}  // namespace
}  // namespace network
