#include "base/process_stat.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/subprocess.h"

namespace base {
namespace {

TEST(ProcessStatTest, AProcessHasItsParentAndItsStart) {
  const absl::StatusOr<ProcessStat> own = ReadProcessStat(getpid());
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->parent, getppid());
  EXPECT_GT(own->start_time, 0u);
  EXPECT_FALSE(own->ended);
  EXPECT_GE(own->start_time, ReadProcessStat(getppid())->start_time);
}

TEST(ProcessStatTest, AZombieHasEndedAndThenThereIsNone) {
  Command command;
  command.argv = {"/bin/true"};
  absl::StatusOr<Subprocess> child = Subprocess::Spawn(command);
  ASSERT_TRUE(child.ok()) << child.status();
  const pid_t pid = child->pid();
  siginfo_t info = {};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  ASSERT_TRUE(ReadProcessStat(pid).ok());
  EXPECT_TRUE(ReadProcessStat(pid)->ended);
  ExitState state;
  ASSERT_TRUE(child->TryReap(&state));
  EXPECT_TRUE(absl::IsNotFound(ReadProcessStat(pid).status()));
}

}  // namespace
}  // namespace base
