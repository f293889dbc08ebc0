#include "daemon/config_checks.h"

#include "gtest/gtest.h"

namespace crispd {
namespace {

TEST(ConfigChecksTest, SizesAreNumbersWithOrWithoutAUnit) {
  EXPECT_EQ(ParseByteSize("").value(), 0);
  EXPECT_EQ(ParseByteSize("0").value(), 0);
  EXPECT_EQ(ParseByteSize("4096").value(), 4096);
  EXPECT_EQ(ParseByteSize("4096B").value(), 4096);
  EXPECT_EQ(ParseByteSize("500KB").value(), 500'000);
  EXPECT_EQ(ParseByteSize("500 KiB").value(), 512'000);
  EXPECT_EQ(ParseByteSize("12MiB").value(), 12 << 20);
  EXPECT_EQ(ParseByteSize("2GiB").value(), int64_t{2} << 30);
  for (const char* bad : {"MiB", "-1", "1.5MiB", "12mib", "12 Mi", "9999999999GiB", "x"}) {
    EXPECT_FALSE(ParseByteSize(bad).ok()) << bad;
  }
}

TEST(ConfigChecksTest, DefaultSysctlsMustBeOfAPodsNamespaces) {
  for (const char* good : {"net.ipv4.ping_group_range=0 1", "net/ipv4/ip_forward=1",
                           "kernel.shm_rmid_forced=1", "fs.mqueue.msg_max=1"}) {
    EXPECT_TRUE(CheckSysctl(good).ok()) << good;
  }
  for (const char* bad : {"vm.swappiness=1", "kernel/panic=1", "net.ipv4.ip_forward", "=1", ""}) {
    EXPECT_FALSE(CheckSysctl(bad).ok()) << bad;
  }
}

TEST(ConfigChecksTest, UlimitsMustBeOnesThatTheKernelKnows) {
  for (const char* good : {"nofile=1024:2048", "NOFILE=1024", "core=-1:-1", "nproc=1=2"}) {
    EXPECT_TRUE(CheckUlimit(good).ok()) << good;
  }
  for (const char* bad : {"files=1:2", "nofile", "nofile=2:1", "nofile=x:1", "nofile=-2:1"}) {
    EXPECT_FALSE(CheckUlimit(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace crispd
