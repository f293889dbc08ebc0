// crisp-init as its callers run it.
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "gmock/gmock.h"

namespace conmon {
namespace {

using ::base::StrCat;
using ::testing::HasSubstr;

std::string Program() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string() + "/crisp-init";
}

base::Context Patience() { return base::Context::Detached(absl::Seconds(30)); }

base::CommandResult RunInit(std::vector<std::string> arguments) {
  base::Command command;
  command.argv = std::move(arguments);
  command.argv.insert(command.argv.begin(), Program());
  command.env = {"PATH=/usr/bin:/bin"};
  const auto result = base::RunCommand(Patience(), command);
  EXPECT_TRUE(result.ok()) << result.status();
  return result.value_or(base::CommandResult());
}

// Waits for a condition that another process brings about.
bool Eventually(const std::function<bool()>& condition) {
  const base::Context limit = base::Context::Detached(absl::Seconds(10));
  while (!condition()) {
    if (!limit.Check().ok()) {
      return false;
    }
    poll(nullptr, 0, 5);
  }
  return true;
}

TEST(InitRunTest, BecomesTheProgram) {
  const base::CommandResult result =
      RunInit({"run", "--", "/bin/sh", "-c", "echo $0 $1; exit 5", "a", "b"});
  EXPECT_EQ(result.exit.code, 5);
  EXPECT_EQ(result.out, "a b\n");
}

class InitExecTest : public testing::Test {
 protected:
  // A "runtime": leaves a process behind, names it in the file and goes.
  base::CommandResult Exec(const std::string& runtime) {
    return RunInit({"exec", "--pid-file", pid_file_, "--", "/bin/sh", "-c", runtime, pid_file_});
  }
  ~InitExecTest() override { unlink(pid_file_.c_str()); }

  const std::string pid_file_ = StrCat("/tmp/crisp-init-exec-", getpid());
};

TEST_F(InitExecTest, EndsAsTheProcessThatTheRuntimeLeft) {
  const base::CommandResult result =
      Exec("(sleep 0.2; echo done; exit 7) & printf %s $! > $0; exit 0");
  EXPECT_EQ(result.exit.code, 7);
  EXPECT_EQ(result.out, "done\n");
}

TEST_F(InitExecTest, KnowsAProcessThatEndedAtOnceAndItsSignal) {
  // A shell reaps its child, which a runtime does not: the child ends once its parent is no shell
  // any more, and while that parent still runs.
  EXPECT_EQ(Exec("(while read name < /proc/$$/comm && test $name = sh; do :; done; exit 3) & "
                 "printf %s $! > $0; exec sleep 0.5")
                .exit.code,
            3);
  EXPECT_EQ(Exec("sh -c 'while read name < /proc/$PPID/comm && test $name = sh; do :; done; "
                 "kill -9 $$' & printf %s $! > $0; exec sleep 0.5")
                .exit.code,
            137);
}

TEST_F(InitExecTest, EndsAsAFailedRuntime) {
  EXPECT_EQ(Exec("exit 4").exit.code, 4);
  EXPECT_EQ(Exec("exit 0").exit.code, 125);  // It named no process.
  EXPECT_EQ(Exec("printf 1 > $0").exit.code, 125);
  EXPECT_EQ(RunInit({"exec", "--pid-file", pid_file_, "--", "/no/such/runtime"}).exit.code, 127);
  EXPECT_EQ(RunInit({"exec", "--", "/bin/true"}).exit.code, 2);
}

TEST_F(InitExecTest, DoesNotWaitForOthersHoldingTheOutput) {
  const absl::Time start = absl::Now();
  EXPECT_EQ(Exec("(sleep 20 & while read name < /proc/$$/comm && test $name = sh; do :; done; "
                 "exit 5) & printf %s $! > $0; exec sleep 0.5")
                .exit.code,
            5);
  EXPECT_LT(absl::Now() - start, absl::Seconds(15));
}

TEST(InitRunTest, MissingProgramIs127) {
  const base::CommandResult result = RunInit({"run", "--", "/no/such/program"});
  EXPECT_EQ(result.exit.code, 127);
  EXPECT_EQ(result.err, "crisp-init: /no/such/program: No such file or directory\n");
}

TEST(InitRunTest, UnrunnableProgramIs126) {
  const base::CommandResult result = RunInit({"run", "--", "/etc/passwd"});
  EXPECT_EQ(result.exit.code, 126);
  EXPECT_EQ(result.err, "crisp-init: /etc/passwd: Permission denied\n");
}

TEST(InitRunTest, NonsenseIsAUsageError) {
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{},
                                             {"nonsense"},
                                             {"run"},
                                             {"run", "--"},
                                             {"run", "--what", "--", "/bin/true"},
                                             {"run", "--rlimit", "nofile=1", "--", "/bin/true"},
                                             {"run", "--rlimit", "what=1:1", "--", "/bin/true"},
                                             {"run", "--rlimit", "nofile=x:1", "--", "/bin/true"},
                                             {"run", "--oom-score-adj", "1001", "--", "/bin/true"},
                                             {"hold", "--what"},
                                             {"pause", "x"}}) {
    const base::CommandResult result = RunInit(wrong);
    EXPECT_EQ(result.exit.code, 2) << ::testing::PrintToString(wrong);
    EXPECT_THAT(result.err, ::testing::StartsWith("crisp-init: "));
  }
}

TEST(InitRunTest, HelpNamesTheVerbs) {
  const base::CommandResult result = RunInit({"--help"});
  EXPECT_EQ(result.exit.code, 0);
  for (const char* verb : {"hold", "pause", "run"}) {
    EXPECT_THAT(result.out, HasSubstr(verb));
  }
}

TEST(InitRunTest, OomScoreIsSet) {
  const base::CommandResult result =
      RunInit({"run", "--oom-score-adj", "567", "--", "/bin/cat", "/proc/self/oom_score_adj"});
  EXPECT_EQ(result.out, "567\n");
}

TEST(InitRunTest, OomScoreThatIsRefusedIsAsLowAsItMayBe) {
  const base::CommandResult result =
      RunInit({"run", "--oom-score-adj", "-900", "--", "/bin/cat", "/proc/self/oom_score_adj"});
  EXPECT_EQ(result.exit.code, 0);
  EXPECT_EQ(result.err, "");
  const int ours = std::atoi(base::ReadFile("/proc/self/oom_score_adj")->c_str());
  const int got = std::atoi(result.out.c_str());
  EXPECT_GE(got, -900);
  EXPECT_LE(got, ours);
  // From a higher start it finds the same floor.
  const base::CommandResult nested =
      RunInit({"run", "--oom-score-adj", "321", "--", Program(), "run", "--oom-score-adj", "-900",
               "--", "/bin/cat", "/proc/self/oom_score_adj"});
  EXPECT_EQ(nested.out, result.out);
}

TEST(InitRunTest, LimitsAreSet) {
  const base::CommandResult result =
      RunInit({"run", "--rlimit", "nofile=123:456", "--rlimit", "core=0:unlimited", "--", "/bin/sh",
               "-c", "ulimit -Sn; ulimit -Hn; ulimit -Sc"});
  EXPECT_EQ(result.out, "123\n456\n0\n");
}

TEST(InitRunTest, LimitThatIsRefusedComesAsNearAsItMay) {
  // The inner one may raise nothing without CAP_SYS_RESOURCE, and everything with it.
  const base::CommandResult result =
      RunInit({"run", "--rlimit", "nofile=100:200", "--", Program(), "run", "--rlimit",
               "nofile=300:400", "--", "/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"});
  EXPECT_EQ(result.exit.code, 0);
  EXPECT_THAT(result.out, ::testing::AnyOf("200\n200\n", "300\n400\n"));
}

TEST(InitRunTest, SignalsAreAsAFreshProgramExpects) {
  // By the shell, which hands ignored signals on.
  const std::string command =
      StrCat("trap '' PIPE TERM HUP; ", Program(), " run -- /bin/cat /proc/self/status");
  FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string text;
  for (int byte = 0; (byte = fgetc(pipe)) != EOF;) {
    text.push_back(static_cast<char>(byte));
  }
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_THAT(text, HasSubstr("SigIgn:\t0000000000000000\n"));
  EXPECT_THAT(text, HasSubstr("SigBlk:\t0000000000000000\n"));
}

TEST(InitRunTest, NewSessionIsItsOwn) {
  const base::CommandResult result = RunInit(
      {"run", "--new-session", "--", "/bin/sh", "-c", "cut -d' ' -f6 /proc/$$/stat; echo $$"});
  const size_t line = result.out.find('\n');
  ASSERT_NE(line, std::string::npos);
  EXPECT_EQ(result.out.substr(0, line), result.out.substr(line + 1, line));
}

TEST(InitRunTest, JoinsTheCgroupsThatExist) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "SKIP: root";
  }
  const std::string cgroup = StrCat("/crisp-test-init-", getpid());
  ASSERT_TRUE(base::MakeCgroup(cgroup).ok());
  std::vector<std::string> arguments = {"run", "--cgroup", "/sys/fs/cgroup/no-such-cgroup"};
  for (const std::string& directory : base::CgroupDirectories(cgroup)) {
    arguments.insert(arguments.end(), {"--cgroup", directory});
  }
  arguments.insert(arguments.end(), {"--", "/bin/cat", "/proc/self/cgroup"});
  const base::CommandResult result = RunInit(arguments);
  EXPECT_EQ(result.exit.code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, HasSubstr(StrCat(":", cgroup, "\n")));
  EXPECT_TRUE(base::RemoveCgroup(cgroup).ok());
}

class SpawnedInitTest : public ::testing::Test {
 protected:
  // Starts it with a pipe on each side; readable and writable here.
  base::Subprocess Spawn(std::vector<std::string> argv) {
    int in[2];
    int out[2];
    EXPECT_EQ(pipe2(in, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    input_.Reset(in[1]);
    output_.Reset(out[0]);
    const base::UniqueFd their_in(in[0]);
    const base::UniqueFd their_out(out[1]);
    base::Command command;
    command.argv = std::move(argv);
    command.env = {"PATH=/usr/bin:/bin"};
    command.stdin_fd = their_in.get();
    command.stdout_fd = their_out.get();
    auto child = base::Subprocess::Spawn(command);
    EXPECT_TRUE(child.ok()) << child.status();
    return *std::move(child);
  }
  std::string Namespace(const std::string& pid, const std::string& name) {
    return std::filesystem::read_symlink(StrCat("/proc/", pid, "/ns/", name)).string();
  }

  base::UniqueFd input_;
  base::UniqueFd output_;
};

TEST_F(SpawnedInitTest, HoldKeepsNamespacesUntilItsInputEnds) {
  base::Subprocess child = Spawn({Program(), "hold", "--user", "--net", "--ipc", "--uts"});
  char ready[6] = {};
  ASSERT_EQ(read(output_.get(), ready, sizeof(ready)), 6);
  EXPECT_EQ(std::string(ready, 6), "ready\n");
  for (const char* name : {"user", "net", "ipc", "uts"}) {
    EXPECT_NE(Namespace(std::to_string(child.pid()), name), Namespace("self", name)) << name;
  }
  EXPECT_EQ(Namespace(std::to_string(child.pid()), "pid"), Namespace("self", "pid"));
  input_.Reset();
  const auto exit = child.Wait(Patience());
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->code, 0);
}

TEST_F(SpawnedInitTest, PauseEndsOnSigtermAndSigint) {
  for (int number : {SIGTERM, SIGINT}) {
    base::Subprocess child = Spawn({Program(), "pause"});
    input_.Reset();  // Its input does not matter.
    // Before it blocks the signals they kill it; after that it exits by itself.
    ASSERT_TRUE(Eventually([&] {
      const std::string status =
          base::ReadFile(StrCat("/proc/", child.pid(), "/status")).value_or("");
      return status.find("SigBlk:\t0000000000014002") != std::string::npos;
    }));
    ASSERT_TRUE(child.Kill(number).ok());
    const auto exit = child.Wait(Patience());
    ASSERT_TRUE(exit.ok()) << exit.status();
    EXPECT_EQ(exit->code, 0);
    EXPECT_EQ(exit->signal, 0);
  }
}

TEST_F(SpawnedInitTest, OrphanIsNobodysChildAndGoesOn) {
  base::Subprocess child =
      Spawn({Program(), "run", "--orphan", "--new-session", "--", "/bin/sh", "-c",
             "read line; cut -d' ' -f4,6 /proc/$$/stat; echo $$"});
  const auto exit = child.Wait(Patience());
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->code, 0);
  ASSERT_EQ(write(input_.get(), "\n", 1), 1);
  std::string out;
  char bytes[64];
  for (ssize_t count = 0; (count = read(output_.get(), bytes, sizeof(bytes))) > 0;) {
    out.append(bytes, static_cast<size_t>(count));
  }
  int parent = 0;
  int session = 0;
  int self = 0;
  ASSERT_EQ(sscanf(out.c_str(), "%d %d %d", &parent, &session, &self), 3) << out;
  EXPECT_NE(parent, child.pid());
  EXPECT_NE(parent, getpid());
  EXPECT_EQ(session, self);
}

TEST_F(SpawnedInitTest, PauseReapsAsInitOfAPidNamespace) {
  if (geteuid() != 0 || access("/usr/bin/unshare", X_OK) != 0) {
    GTEST_SKIP() << "SKIP: root and util-linux";
  }
  base::Subprocess unshare =
      Spawn({"/usr/bin/unshare", "--pid", "--fork", "--kill-child", Program(), "pause"});
  const auto children = [](pid_t pid) {
    return base::ReadFile(StrCat("/proc/", pid, "/task/", pid, "/children")).value_or("");
  };
  ASSERT_TRUE(Eventually([&] { return !children(unshare.pid()).empty(); }));
  const pid_t init = std::atoi(children(unshare.pid()).c_str());
  base::Command enter;
  // The shell in between ends at once, so the background process becomes the init's.
  enter.argv = {"/usr/bin/nsenter",
                "--target",
                std::to_string(init),
                "--pid",
                "/bin/sh",
                "-c",
                "(read line; exit 3) < /proc/self/fd/3 > /dev/null 2>&1 3<&- &"};
  enter.env = {"PATH=/usr/bin:/bin"};
  int hold[2];
  ASSERT_EQ(pipe2(hold, O_CLOEXEC), 0);
  const base::UniqueFd theirs(hold[0]);
  base::UniqueFd ours(hold[1]);
  enter.extra_fds = {{3, theirs.get()}};
  ASSERT_TRUE(base::RunCommand(Patience(), enter).ok());
  ASSERT_TRUE(Eventually([&] { return !children(init).empty(); }));
  ours.Reset();
  EXPECT_TRUE(Eventually([&] { return children(init).empty(); }));
}

}  // namespace
}  // namespace conmon
