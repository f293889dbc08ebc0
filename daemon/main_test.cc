// The program as it is started: arguments, signals, systemd's messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/mounts.h"
#include "base/record_store.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "daemon/config.h"
#include "daemon/instance_lock.h"
#include "daemon/status_command.h"
#include "proto/state.pb.h"

namespace crispd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class MainTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/crisp-main-XXXXXX";
    directory_ = mkdtemp(path);
    cgroup_ = base::StrCat("/crisp-main-test-", getpid());
    notify_.Reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string notify_path = directory_ + "/notify";
    notify_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(notify_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    log_ = *base::Open(directory_ + "/log", O_RDWR | O_CREAT | O_CLOEXEC);
  }
  void TearDown() override {
    base::RemoveCgroup(cgroup_).IgnoreError();
    // The daemon makes a mount of it, so that pins reach the host.
    EXPECT_TRUE(base::Unmount(directory_ + "/netns").ok());
    ASSERT_TRUE(base::RemoveTree(directory_).ok());
  }

  // crisp with directories of its own and no drop-ins of this machine.
  base::Command Crisp(const std::vector<std::string>& arguments) const {
    base::Command command;
    command.argv = {CRISP_PROGRAM,
                    "--config-dir",
                    "",
                    "--root",
                    directory_ + "/root",
                    "--runroot",
                    directory_ + "/run",
                    "--work-cgroup",
                    cgroup_ + "/work",
                    "--netns-dir",
                    directory_ + "/netns",
                    "--cni-config-dir",
                    directory_ + "/cni",
                    "--conmon-cgroup",
                    cgroup_ + "/monitors"};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    command.env = {base::StrCat("NOTIFY_SOCKET=", directory_, "/notify"), "WATCHDOG_USEC=200000"};
    return command;
  }
  base::CommandResult Run(const std::vector<std::string>& arguments) const {
    absl::StatusOr<base::CommandResult> result =
        base::RunCommand(base::Context::Detached(absl::Seconds(60)), Crisp(arguments));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : base::CommandResult();
  }
  base::Subprocess Serve() const {
    base::Command command = Crisp({"serve"});
    command.stderr_fd = log_.get();
    absl::StatusOr<base::Subprocess> daemon = base::Subprocess::Spawn(command);
    EXPECT_TRUE(daemon.ok()) << daemon.status();
    return *std::move(daemon);
  }
  // The next message to systemd that is none of the watchdog's, or the next of those.
  std::string NextMessage(bool watchdog = false) const {
    for (;;) {
      pollfd wait = {.fd = notify_.get(), .events = POLLIN, .revents = 0};
      if (poll(&wait, 1, 60000) != 1) return "nothing came";
      char buffer[256];
      const ssize_t size = recv(notify_.get(), buffer, sizeof(buffer), 0);
      const std::string message(buffer, size > 0 ? static_cast<size_t>(size) : 0);
      if ((message == "WATCHDOG=1") == watchdog) return message;
    }
  }
  static base::ExitState End(base::Subprocess* daemon) {
    EXPECT_TRUE(daemon->Kill(SIGTERM).ok());
    absl::StatusOr<base::ExitState> exit = daemon->Wait(base::Context::Detached(absl::Seconds(60)));
    EXPECT_TRUE(exit.ok()) << exit.status();
    return exit.ok() ? *exit : base::ExitState{.code = -1};
  }
  std::string Log() const { return *base::ReadFile(directory_ + "/log"); }

  std::string directory_;
  std::string cgroup_;
  base::UniqueFd notify_;
  base::UniqueFd log_;
};

TEST_F(MainTest, TellsSystemdOfReadinessAndOfItsEnd) {
  base::Subprocess daemon = Serve();
  EXPECT_EQ(NextMessage(), base::StrCat("READY=1\nMAINPID=", daemon.pid())) << Log();
  EXPECT_EQ(NextMessage(true), "WATCHDOG=1");
  EXPECT_EQ(End(&daemon).code, 0);
  EXPECT_EQ(NextMessage(), "STOPPING=1");
  EXPECT_FALSE(base::Exists(directory_ + "/run/crisp.sock"));
  EXPECT_THAT(Log(), HasSubstr(base::StrCat("starts: configuration without a file, root ",
                                            directory_, "/root, runroot ", directory_,
                                            "/run, socket ", directory_, "/run/crisp.sock")));
}

TEST_F(MainTest, ASecondDaemonOnTheSameRootIsRefusedWithThePidOfTheFirst) {
  base::Subprocess daemon = Serve();
  ASSERT_THAT(NextMessage(), HasSubstr("READY=1")) << Log();
  const base::CommandResult second = Run({"serve", "--listen", directory_ + "/other.sock"});
  EXPECT_EQ(second.exit.code, 1);
  EXPECT_THAT(second.err, HasSubstr(base::StrCat("pid ", daemon.pid())));
  EXPECT_EQ(End(&daemon).code, 0);
}

TEST_F(MainTest, AStartThatFailsEarlySaysWhy) {
  ASSERT_TRUE(base::MakeCgroup(cgroup_ + "/work").ok());
  const absl::StatusOr<InstanceLock> other =
      InstanceLock::AcquireDirectory(base::CgroupDirectories(cgroup_ + "/work").front());
  ASSERT_TRUE(other.ok()) << other.status();
  const base::CommandResult refused = Run({"serve"});
  EXPECT_EQ(refused.exit.signal, 0);
  EXPECT_EQ(refused.exit.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("/work is in use by another crisp"));
}

TEST_F(MainTest, AKilledDaemonsLeftoversDoNotStopTheNextOne) {
  base::Subprocess killed = Serve();
  ASSERT_THAT(NextMessage(), HasSubstr("READY=1")) << Log();
  ASSERT_TRUE(killed.Kill(SIGKILL).ok());
  ASSERT_TRUE(killed.Wait(base::Context::Detached(absl::Seconds(60))).ok());
  base::Subprocess daemon = Serve();
  EXPECT_EQ(NextMessage(), base::StrCat("READY=1\nMAINPID=", daemon.pid())) << Log();
  EXPECT_EQ(End(&daemon).code, 0);
}

TEST_F(MainTest, Usr1LogsTheOperationsInFlight) {
  base::Subprocess daemon = Serve();
  ASSERT_THAT(NextMessage(), HasSubstr("READY=1")) << Log();
  ASSERT_TRUE(daemon.Kill(SIGUSR1).ok());
  ASSERT_TRUE(daemon.Kill(SIGHUP).ok());
  EXPECT_EQ(NextMessage(true), "WATCHDOG=1");
  EXPECT_EQ(NextMessage(true), "WATCHDOG=1");
  EXPECT_EQ(End(&daemon).code, 0);
  EXPECT_THAT(Log(), HasSubstr("operations in flight"));
  EXPECT_THAT(Log(), HasSubstr("lane sandbox: "));
}

TEST_F(MainTest, StatusPrintsConditionsAndFailsWithoutADaemon) {
  base::Subprocess daemon = Serve();
  ASSERT_THAT(NextMessage(), HasSubstr("READY=1")) << Log();
  const base::CommandResult status = Run({"status"});
  EXPECT_THAT(status.out, HasSubstr("RuntimeReady: "));
  EXPECT_THAT(status.out, HasSubstr("operations: "));
  EXPECT_THAT(status.out, Not(HasSubstr("\"method\": \"Status\"")));
  EXPECT_EQ(status.exit.code, status.out.find("Ready: no") == std::string::npos ? 0 : 3);
  EXPECT_EQ(End(&daemon).code, 0);

  const base::CommandResult nobody = Run({"status"});
  EXPECT_EQ(nobody.exit.code, 1);
  EXPECT_EQ(nobody.err, base::StrCat("crisp: crisp is not running on ", directory_,
                                     "/run/crisp.sock (No such file or directory)\n"));
}

TEST_F(MainTest, WrongArgumentsAndConfigurationsExitWithTwo) {
  EXPECT_EQ(Run({"--frobnicate"}).exit.code, 2);
  EXPECT_EQ(Run({"frobnicate"}).exit.code, 2);
  EXPECT_THAT(Run({"--log-levle=debug"}).err,
              HasSubstr("unknown flag \"--log-levle\": did you mean \"--log-level\"?"));
  EXPECT_THAT(Run({"stauts"}).err,
              HasSubstr("unknown subcommand \"stauts\": did you mean \"status\"?"));
  EXPECT_THAT(Run({"status", "--record"}).err, HasSubstr("did you mean \"--records\"?"));
  const base::CommandResult flag = Run({"--pids-limit", "many"});
  EXPECT_EQ(flag.exit.code, 2);
  EXPECT_THAT(flag.err, HasSubstr("--pids-limit: want an integer"));
  const std::string file = directory_ + "/bad.conf";
  ASSERT_TRUE(
      base::ReplaceFile(file, "[crisp]\nrot = 1\n", 0600, base::Durability::kVolatile).ok());
  const base::CommandResult config = Run({"--config", file});
  EXPECT_EQ(config.exit.code, 2);
  EXPECT_THAT(config.err, HasSubstr(file + ":2: unknown key \"crisp.rot\": did you mean"));
  EXPECT_EQ(Run({"--config", directory_ + "/missing.conf"}).exit.code, 2);
}

TEST_F(MainTest, ConfigPrintsValuesWithTheirOrigins) {
  const base::CommandResult config =
      Run({"config", "--insecure-registry", "a:1", "--insecure-registry", "b:2"});
  EXPECT_EQ(config.exit.code, 0);
  EXPECT_THAT(config.out,
              HasSubstr("insecure_registries = [\"a:1\", \"b:2\"]  # --insecure-registry\n"));
  EXPECT_THAT(config.out, HasSubstr("pids_limit = 0  # default\n"));
}

TEST_F(MainTest, HelpAndVersionSucceed) {
  const base::CommandResult help = Run({"--help"});
  EXPECT_EQ(help.exit.code, 0);
  EXPECT_THAT(help.out, HasSubstr("--insecure-registry"));
  EXPECT_LT(help.out.find("Subcommands:"), help.out.find("--insecure-registry"));
  EXPECT_THAT(help.out, Not(HasSubstr("VALUE ...")));
  EXPECT_EQ(Run({"--version"}).out, "crisp " CRISP_VERSION "\nCRI runtime.v1\n");
  EXPECT_EQ(Run({"version"}).out, "crisp " CRISP_VERSION "\nCRI runtime.v1\n");
}

TEST_F(MainTest, TheSampleConfigurationIsTheTemplate) {
  EXPECT_EQ(*base::ReadFile(CRISP_SOURCE_DIR "/contrib/crisp.conf"), ConfigTemplate());
  EXPECT_EQ(Run({"config", "--default"}).out, ConfigTemplate());
}

TEST_F(MainTest, TheUnitStartsTheDaemonAndLeavesMountsToTheHost) {
  const std::string unit = *base::ReadFile(CRISP_SOURCE_DIR "/contrib/crisp.service");
  for (const char* line :
       {"Type=notify", "Delegate=yes", "KillMode=control-group", "OOMScoreAdjust=-999",
        "RuntimeDirectoryPreserve=yes", "TasksMax=infinity", "LimitNOFILE=1048576",
        "Restart=always", "ExecStart=/usr/bin/crisp"}) {
    EXPECT_THAT(unit, HasSubstr(base::StrCat("\n", line, "\n")));
  }
  EXPECT_THAT(unit, Not(HasSubstr("man:")));
  EXPECT_THAT(unit, HasSubstr("\nWants=network-online.target crisp-monitors.service\n"));
  EXPECT_THAT(unit, Not(HasSubstr("\nPrivate")));
  EXPECT_THAT(unit, Not(HasSubstr("\nProtect")));
}

TEST_F(MainTest, TheMonitorsUnitGivesItsCgroupAwayAndIsNotStopped) {
  const std::string unit = *base::ReadFile(CRISP_SOURCE_DIR "/contrib/crisp-monitors.service");
  for (const char* line : {"Type=oneshot", "RemainAfterExit=yes", "Delegate=yes",
                           "OOMPolicy=continue", "TasksMax=infinity", "RefuseManualStop=yes"}) {
    EXPECT_THAT(unit, HasSubstr(base::StrCat("\n", line, "\n")));
  }
}

TEST_F(MainTest, RecordsOfADeadDaemonArePrintedAndLeftAsTheyAre) {
  const std::string pods = directory_ + "/root/records/pods";
  const base::RecordStore store = *base::RecordStore::Open(pods, base::Durability::kVolatile);
  crisp::state::PodRecord pod;
  pod.set_state(crisp::state::PodRecord::READY);
  pod.mutable_config()->mutable_metadata()->set_namespace_("shop");
  pod.mutable_config()->mutable_metadata()->set_name("web");
  pod.add_ips("10.1.2.3");
  ASSERT_TRUE(store.Put("0123", pod.SerializeAsString()).ok());
  ASSERT_TRUE(base::ReplaceFile(pods + "/4567", "torn", 0600, base::Durability::kVolatile).ok());
  const base::CommandResult status = Run({"status", "--records"});
  EXPECT_EQ(status.exit.code, 0) << status.err;
  EXPECT_THAT(status.out, HasSubstr("pod 0123\n  state: READY\n  name: shop/web\n"));
  EXPECT_THAT(status.out, HasSubstr("  address: 10.1.2.3\n"));
  EXPECT_THAT(status.out, HasSubstr(pods + "/4567: damaged\n"));
  EXPECT_EQ(*base::ReadFile(pods + "/4567"), "torn");
}

TEST_F(MainTest, RecordsSayADetachIsOwedOnlyWhenThePodHasEnded) {
  const base::RecordStore store =
      *base::RecordStore::Open(directory_ + "/root/records/pods", base::Durability::kVolatile);
  crisp::state::PodRecord pod;
  pod.set_network_attached(true);
  pod.set_state(crisp::state::PodRecord::READY);
  ASSERT_TRUE(store.Put("0123", pod.SerializeAsString()).ok());
  EXPECT_THAT(Run({"status", "--records"}).out, HasSubstr("\n  network: attached\n"));
  pod.set_state(crisp::state::PodRecord::STOPPED);
  ASSERT_TRUE(store.Put("0123", pod.SerializeAsString()).ok());
  EXPECT_THAT(Run({"status", "--records"}).out, HasSubstr("\n  network: a detach is owed\n"));
}

TEST_F(MainTest, NoRecordsAtAllAreNoError) {
  const base::CommandResult status = Run({"status", "--records"});
  EXPECT_EQ(status.exit.code, 0);
  EXPECT_EQ(status.out, base::StrCat("no records in ", directory_, "/root\n"));
}

}  // namespace
}  // namespace crispd
