#include "runtimeservice/spec/node_mounts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

TEST(ParseMountsFileTest, ALineIsSourceAndDestination) {
  const auto mounts = ParseMountsFile(
      "# Secrets of the node\n"
      "/usr/share/secrets:/run/secrets\n"
      "\n"
      "  /etc/pki/entitlement : /run/../run/pki/ \r\n"
      "/both");
  ASSERT_TRUE(mounts.ok()) << mounts.status();
  ASSERT_EQ(mounts->size(), 3u);
  EXPECT_EQ((*mounts)[0].source, "/usr/share/secrets");
  EXPECT_EQ((*mounts)[0].destination, "/run/secrets");
  EXPECT_TRUE((*mounts)[0].readonly);
  EXPECT_EQ((*mounts)[1].source, "/etc/pki/entitlement");
  EXPECT_EQ((*mounts)[1].destination, "/run/pki");
  EXPECT_EQ((*mounts)[2].source, "/both");
  EXPECT_EQ((*mounts)[2].destination, "/both");
  EXPECT_THAT(ParseMountsFile("").value(), IsEmpty());
}

TEST(ParseMountsFileTest, AnotherLineIsAnErrorWithItsNumber) {
  for (const std::string line : {"relative:/a", "/a:relative", "/a:/b:ro", "/a:", ":/a", "/a:/"}) {
    const absl::Status status = ParseMountsFile("/fine\n" + line + "\n").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(status.message()), StartsWith("2: ")) << line;
  }
}

TEST(CheckTimezoneTest, OnlyNamesBelowTheZonesFolderAreTaken) {
  for (const char* name : {"", "Local", "UTC", "Europe/Berlin", "Etc/GMT+5", "America/St_Johns"}) {
    EXPECT_TRUE(CheckTimezone(name).ok()) << name;
  }
  for (const char* name : {"/etc/shadow", "../../etc/shadow", "a/../b", "Europe/Ber lin"}) {
    EXPECT_FALSE(CheckTimezone(name).ok()) << name;
  }
}

TEST(ResolveNodeMountsTest, WhatIsMissingIsLeftOut) {
  NodeMounts mounts;
  mounts.defaults = {{.destination = "/run/gone", .source = "/not/there"},
                     {.destination = "/run/host", .source = "/proc/self/../../etc"}};
  const auto found = ResolveNodeMounts(mounts);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ((*found)[0].source, "/etc");
  EXPECT_EQ((*found)[0].destination, "/run/host");
}

TEST(ResolveNodeMountsTest, AnUnknownTimeZoneIsAnErrorThatNamesTheKey) {
  NodeMounts mounts;
  mounts.timezone = "Atlantis/Capital";
  const absl::Status status = ResolveNodeMounts(mounts).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("timezone: "));
}

TEST(ResolveNodeMountsTest, TheTimeZoneIsAFileOfTheHost) {
  NodeMounts mounts;
  mounts.timezone = "Etc/UTC";
  if (!base::Exists("/usr/share/zoneinfo/Etc/UTC")) {
    GTEST_SKIP() << "SKIP: the package tzdata";
  }
  const auto found = ResolveNodeMounts(mounts);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 1u);
  EXPECT_THAT((*found)[0].source, StartsWith("/usr/share/zoneinfo/"));
  EXPECT_EQ((*found)[0].destination, "/etc/localtime");
  mounts.timezone = "local";
  EXPECT_EQ(ResolveNodeMounts(mounts)->size(), base::Exists("/etc/localtime") ? 1u : 0u);
}

}  // namespace
}  // namespace runtimeservice
