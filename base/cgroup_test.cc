#include "base/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/files.h"
#include "base/strings.h"
#include "base/subprocess.h"

namespace base {
namespace {

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "SKIP: root";
    const absl::Status made = MakeCgroup(path_);
    if (!made.ok()) GTEST_SKIP() << "SKIP: cgroups that can be made: " << made;
  }
  void TearDown() override {
    KillCgroup(Context::Detached(absl::Seconds(10)), path_).IgnoreError();
    RemoveCgroup(path_).IgnoreError();
  }

  // A shell in `path` that says "ready" once `script` has.
  Subprocess Run(const std::string& path, const std::string& script) {
    int fds[2] = {-1, -1};
    EXPECT_EQ(pipe(fds), 0);
    const UniqueFd answer(fds[0]);
    UniqueFd out(fds[1]);
    Command command;
    command.argv = {"/bin/sh", "-c", script};
    command.env = {"PATH=/usr/bin:/bin"};
    command.stdout_fd = out.get();
    // Joins before it says anything.
    command.argv[2] = "read go; " + script;
    int gate[2] = {-1, -1};
    EXPECT_EQ(pipe(gate), 0);
    const UniqueFd go_in(gate[0]);
    UniqueFd go_out(gate[1]);
    command.stdin_fd = go_in.get();
    absl::StatusOr<Subprocess> child = Subprocess::Spawn(command);
    EXPECT_TRUE(child.ok()) << child.status();
    out.Reset();
    EXPECT_TRUE(JoinCgroup(path, child->pid()).ok());
    go_out.Reset();
    char byte = 0;
    EXPECT_EQ(read(answer.get(), &byte, 1), 1);
    return *std::move(child);
  }

  const std::string path_ = StrCat("/crisp-test-cgroup-", getpid());
};

TEST_F(CgroupTest, EverythingBelowIsKilledAndRemoved) {
  ASSERT_TRUE(MakeCgroup(path_ + "/inner").ok());
  Subprocess child = Run(path_ + "/inner", "sleep 4321 & echo ready; wait");
  EXPECT_FALSE(RemoveCgroup(Context::Detached(absl::Milliseconds(20)), path_).ok());
  ASSERT_TRUE(KillCgroup(Context::Detached(absl::Seconds(20)), path_).ok());
  EXPECT_THAT(CgroupProcesses(path_), ::testing::IsEmpty());
  EXPECT_EQ(child.Wait(Context::Detached(absl::Seconds(20)))->signal, SIGKILL);
  EXPECT_TRUE(RemoveCgroup(path_).ok());
  for (const std::string& directory : CgroupDirectories(path_)) {
    EXPECT_FALSE(Exists(directory)) << directory;
  }
}

TEST_F(CgroupTest, WhatForksAllTheTimeIsKilled) {
  Subprocess child = Run(path_,
                         "echo ready; f() { sleep 0.01 & g & }; g() { sleep 0.01 & f & }; "
                         "for i in 1 2 3 4; do f; done; wait");
  ASSERT_TRUE(KillCgroup(Context::Detached(absl::Seconds(30)), path_).ok());
  EXPECT_THAT(CgroupProcesses(path_), ::testing::IsEmpty());
  EXPECT_TRUE(child.Wait(Context::Detached(absl::Seconds(20))).ok());
}

TEST_F(CgroupTest, WhatIsNotThereIsKilledAndRemovedAlready) {
  EXPECT_TRUE(KillCgroup(Context::Detached(absl::Seconds(5)), path_ + "/none").ok());
  EXPECT_TRUE(RemoveCgroup(path_ + "/none").ok());
  EXPECT_FALSE(RemoveCgroup("/").ok());
}

}  // namespace
}  // namespace base
