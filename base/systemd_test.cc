#include "base/systemd.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/strings.h"
#include "base/subprocess.h"

namespace base {
namespace {

int Systemctl(const std::vector<std::string>& arguments) {
  Command command;
  command.argv = {"/usr/bin/systemctl"};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  const auto result = RunCommand(Context::Detached(absl::Seconds(60)), command);
  return result.ok() ? result->exit.code : -1;
}

TEST(SystemdTest, WithoutSystemdNothingIsAsked) {
  if (SystemdIsInit()) GTEST_SKIP() << "SKIP: a machine without systemd";
  EXPECT_TRUE(absl::IsFailedPrecondition(
      StopSystemdUnit(Context::Detached(absl::Seconds(5)), "crisp-test.slice")));
}

TEST(SystemdTest, ASliceIsStoppedAndAnUnknownOneIsNoError) {
  if (!SystemdIsInit() || geteuid() != 0) GTEST_SKIP() << "SKIP: systemd as process 1, root";
  const std::string slice = StrCat("crisp-test-", getpid(), ".slice");
  ASSERT_EQ(Systemctl({"start", slice}), 0);
  const Context ctx = Context::Detached(absl::Seconds(60));
  EXPECT_EQ(StopSystemdUnit(ctx, slice), absl::OkStatus());
  EXPECT_NE(Systemctl({"is-active", slice}), 0);
  EXPECT_EQ(StopSystemdUnit(ctx, slice), absl::OkStatus());
  EXPECT_EQ(StopSystemdUnit(ctx, StrCat("no-such-", getpid(), ".service")), absl::OkStatus());
}

TEST(SystemdTest, WhatSystemdRefusesIsItsOwnWords) {
  if (!SystemdIsInit() || geteuid() != 0) GTEST_SKIP() << "SKIP: systemd as process 1, root";
  const absl::Status status = StopSystemdUnit(Context::Detached(absl::Seconds(60)), "no/unit");
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("systemd: "), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace base
