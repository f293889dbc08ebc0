// What the roles may not do, tried from inside, and the confinement of a live crisp-pull.
#include "imageservice/worker/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "imageservice/worker/test_daemon.h"
#include "imageservice/worker/test_registry.h"
#include "imageservice/worker/test_server.h"

namespace imageservice::worker {
namespace {

// Runs `body` in a child of `role` that may write beneath `staging`; the child's exit code, which
// is what body returns.
int RunConfined(Role role, const std::string& staging, const std::function<int(int)>& body) {
  const int directory = open(staging.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const pid_t child = fork();
  if (child == 0) {
    const std::vector<std::string> readable =
        role == Role::kNetwork ? NetworkFiles() : std::vector<std::string>();
    const std::vector<int> writable = role == Role::kForker || role == Role::kParser
                                          ? std::vector<int>{directory}
                                          : std::vector<int>();
    const bool is_confined = ForgoNewPrivileges().ok() &&
                             (role != Role::kParser || EnterRoot(directory).ok()) &&
                             ConfineFiles(readable, writable).ok() && DropCapabilities(role).ok() &&
                             FilterSystemCalls(role).ok();
    _exit(is_confined ? body(directory) : 99);
  }
  close(directory);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

bool HasLandlock() { return syscall(SYS_landlock_create_ruleset, nullptr, 0, 1U) >= 2; }

class RoleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "SKIP: root";
    }
  }
  TempDirectory temp_;
};

// What holds for every role.
class SandboxTest : public RoleTest, public ::testing::WithParamInterface<Role> {};

std::string RoleName(const ::testing::TestParamInfo<Role>& role) {
  switch (role.param) {
    case Role::kNetwork:
      return "Network";
    case Role::kForker:
      return "Forker";
    case Role::kVerifier:
      return "Verifier";
    case Role::kParser:
      return "Parser";
    case Role::kArchiveReader:
      return "ArchiveReader";
    case Role::kArchiveWriter:
      return "ArchiveWriter";
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(Roles, SandboxTest,
                         ::testing::Values(Role::kNetwork, Role::kForker, Role::kVerifier,
                                           Role::kParser, Role::kArchiveReader,
                                           Role::kArchiveWriter),
                         RoleName);

TEST_P(SandboxTest, CannotReadOrWriteFilesElsewhere) {
  if (!HasLandlock()) GTEST_SKIP() << "SKIP: Landlock";
  ASSERT_TRUE(
      base::ReplaceFile(temp_.path() + "/secret", "x", 0644, base::Durability::kVolatile).ok());
  ASSERT_EQ(mkdir((temp_.path() + "/staging").c_str(), 0700), 0);
  const std::string secret = temp_.path() + "/secret";
  const std::string created = temp_.path() + "/created";
  const int code = RunConfined(GetParam(), temp_.path() + "/staging", [&](int) {
    if (open(secret.c_str(), O_RDONLY) >= 0) return 1;
    if (open(secret.c_str(), O_WRONLY) >= 0) return 2;
    if (open(created.c_str(), O_WRONLY | O_CREAT, 0600) >= 0) return 3;
    if (open("/etc/shadow", O_RDONLY) >= 0) return 4;
    if (open("/proc/1/mem", O_RDWR) >= 0) return 5;
    return 0;
  });
  EXPECT_EQ(code, 0);
}

TEST_P(SandboxTest, CannotExecuteMountTraceOrSignal) {
  const Role role = GetParam();
  const pid_t parent = getpid();
  const int code = RunConfined(GetParam(), temp_.path(), [&](int) {
    execl("/bin/true", "true", nullptr);
    if (mount("none", "/mnt", "tmpfs", 0, nullptr) == 0) return 1;
    if (ptrace(PTRACE_SEIZE, parent, nullptr, nullptr) == 0) return 2;
    if (kill(parent, 0) == 0) return 3;
    if (unshare(CLONE_NEWUSER) == 0) return 4;
    if (syscall(SYS_bpf, 0, nullptr, 0) == 0) return 5;
    if (setuid(1) == 0) return 6;
    if (role != Role::kForker && chroot("/") == 0) return 7;
    if (syscall(SYS_io_uring_setup, 1, nullptr) != -1 || errno != EPERM) return 8;
    return 42;  // And so exec has failed.
  });
  EXPECT_EQ(code, 42);
}

TEST_P(SandboxTest, CannotReachOtherDaemons) {
  const int code = RunConfined(GetParam(), temp_.path(), [](int) {
    if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0) return 1;
    if (socket(AF_VSOCK, SOCK_STREAM, 0) >= 0) return 2;
    if (socket(AF_PACKET, SOCK_RAW, 0) >= 0) return 3;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0) return 4;
    return 0;
  });
  EXPECT_EQ(code, 0);
}

TEST_F(RoleTest, OnlyTheNetworkHasSockets) {
  const auto can_connect = [](int) { return socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 1 : 0; };
  EXPECT_EQ(RunConfined(Role::kNetwork, temp_.path(), can_connect), 1);
  EXPECT_EQ(RunConfined(Role::kForker, temp_.path(), can_connect), 0);
  EXPECT_EQ(RunConfined(Role::kVerifier, temp_.path(), can_connect), 0);
  EXPECT_EQ(RunConfined(Role::kParser, temp_.path(), can_connect), 0);
  EXPECT_EQ(RunConfined(Role::kArchiveReader, temp_.path(), can_connect), 0);
  EXPECT_EQ(RunConfined(Role::kArchiveWriter, temp_.path(), can_connect), 0);
}

TEST_F(RoleTest, OnlyTheForkerForks) {
  const auto can_fork = [](int) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    return child > 0 ? 1 : 0;
  };
  EXPECT_EQ(RunConfined(Role::kNetwork, temp_.path(), can_fork), 0);
  EXPECT_EQ(RunConfined(Role::kForker, temp_.path(), can_fork), 1);
  EXPECT_EQ(RunConfined(Role::kVerifier, temp_.path(), can_fork), 0);
  EXPECT_EQ(RunConfined(Role::kParser, temp_.path(), can_fork), 0);
  EXPECT_EQ(RunConfined(Role::kArchiveReader, temp_.path(), can_fork), 0);
  EXPECT_EQ(RunConfined(Role::kArchiveWriter, temp_.path(), can_fork), 0);
}

// Landlock knows nothing of these calls.
TEST_F(RoleTest, NobodyButTheForkerChangesTheMetadataOfFilesElsewhere) {
  const std::string other = temp_.path() + "/other";
  const std::string staging = temp_.path() + "/staging";
  ASSERT_TRUE(base::ReplaceFile(other, "x", 0600, base::Durability::kVolatile).ok());
  ASSERT_EQ(mkdir(staging.c_str(), 0700), 0);
  struct stat before = {};
  ASSERT_EQ(stat(other.c_str(), &before), 0);
  for (const Role role : {Role::kNetwork, Role::kVerifier, Role::kParser, Role::kArchiveReader,
                          Role::kArchiveWriter}) {
    const int code = RunConfined(role, staging, [&](int root) {
      const timespec times[2] = {{1, 0}, {1, 0}};
      for (const std::string& path : {other, std::string("../other")}) {
        if (fchmodat(root, path.c_str(), 04777, 0) == 0) return 1;
        if (fchmodat(AT_FDCWD, path.c_str(), 04777, 0) == 0) return 2;
        if (fchownat(root, path.c_str(), 5, 5, 0) == 0) return 3;
        if (utimensat(root, path.c_str(), times, 0) == 0) return 4;
        if (lsetxattr(path.c_str(), "trusted.x", "y", 1, 0) == 0) return 5;
        if (linkat(root, path.c_str(), root, "mine", 0) == 0) return 6;
        if (rename(path.c_str(), "mine") == 0) return 7;
        if (unlink(path.c_str()) == 0) return 8;
      }
      return 0;
    });
    EXPECT_EQ(code, 0) << RoleName({role, 0});
  }
  struct stat after = {};
  ASSERT_EQ(stat(other.c_str(), &after), 0);
  EXPECT_EQ(after.st_ctim.tv_sec, before.st_ctim.tv_sec);
  EXPECT_EQ(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
}

// What holds without Landlock, which the kernel may lack.
TEST_F(RoleTest, OnlyParsersAndArchiveWritersWriteFilesEvenWithoutLandlock) {
  const std::string file = temp_.path() + "/file";
  ASSERT_TRUE(base::ReplaceFile(file, "x", 0666, base::Durability::kVolatile).ok());
  for (const Role role : {Role::kNetwork, Role::kVerifier, Role::kArchiveReader}) {
    const pid_t child = fork();
    if (child == 0) {
      const std::string fresh = file + "-fresh";
      int code = ForgoNewPrivileges().ok() && FilterSystemCalls(role).ok() ? 0 : 99;
      for (const int flags : {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND}) {
        code = open(file.c_str(), flags) >= 0 ? 1 : code;
      }
      code = open(fresh.c_str(), O_RDONLY | O_CREAT, 0600) >= 0 ? 2 : code;
      code = open("/tmp", O_TMPFILE | O_RDWR, 0600) >= 0 ? 3 : code;
      code = (open(file.c_str(), O_RDONLY) >= 0) == (role != Role::kVerifier) ? code : 4;
      _exit(code);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << RoleName({role, 0});
  }
}

TEST_F(RoleTest, AVerifierKillsItsOwnChildOnly) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t stranger = fork();
  if (stranger == 0) {
    pause();
  }
  const pid_t verifier = fork();
  if (verifier == 0) {
    const pid_t child = fork();
    if (child == 0) {
      pause();
    }
    const bool is_confined =
        ForgoNewPrivileges().ok() && ConfineFiles({}, {}, Signals::kChildren).ok() &&
        DropCapabilities(Role::kVerifier).ok() && FilterSystemCalls(Role::kVerifier, child).ok();
    siginfo_t end = {};
    int code = is_confined ? 0 : 99;
    code = kill(stranger, SIGKILL) == 0 ? 1 : code;
    code = kill(child, SIGTERM) == 0 ? 2 : code;
    code = kill(child, SIGKILL) != 0 ? 3 : code;
    code = waitid(P_PID, static_cast<id_t>(child), &end, WEXITED) != 0 ? 4 : code;
    _exit(code);
  }
  int status = 0;
  ASSERT_EQ(waitpid(verifier, &status, 0), verifier);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(waitpid(stranger, &status, WNOHANG), 0) << "it lives";
  ASSERT_EQ(kill(stranger, SIGKILL), 0);
  ASSERT_EQ(waitpid(stranger, &status, 0), stranger);
}

TEST_F(RoleTest, TheParserMayLinkAcrossItsOwnDirectoriesAndMakesNoDevices) {
  const int code = RunConfined(Role::kParser, temp_.path(), [](int root) {
    char target[4] = {};
    const bool is_made =
        mkdirat(root, "a", 0755) == 0 && mkdirat(root, "b", 0755) == 0 &&
        openat(root, "a/f", O_WRONLY | O_CREAT, 0600) >= 0 &&
        linkat(root, "a/f", root, "b/g", 0) == 0 && mknodat(root, "whiteout", S_IFCHR, 0) == 0 &&
        mknodat(root, "fifo", S_IFIFO, 0) == 0 && symlinkat("a", root, "s") == 0 &&
        readlinkat(root, "s", target, sizeof(target)) == 1 &&
        mknodat(root, "device", S_IFCHR, makedev(1, 1)) != 0 &&
        mknodat(root, "disk", S_IFBLK, makedev(8, 0)) != 0 && fchownat(root, "a/f", 5, 5, 0) == 0;
    return is_made ? 0 : errno;
  });
  EXPECT_EQ(code, 0);
}

// --- a live worker ------------------------------------------------------------------------------

std::string StatusLine(const std::string& path, const std::string& name) {
  std::istringstream lines(base::ReadFile(path).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  }
  return "";
}

// A worker that waits for an answer about its layer, with all it has started.
class LiveWorkerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "SKIP: root";
    }
    root_ = layout_.AddImage({GzipLayer({{.name = "f", .content = "x"}})}, "linux", "amd64");
    server_ = std::make_unique<TestServer>([this](const TestRequest& request) {
      return ServeLayout(layout_, root_, request).value_or(TestResponse{.status = 404});
    });
  }

  // Talks to a worker until it asks about its layer, then calls `look` with its process id.
  PullOutcome LookAtWorker(const std::function<void(pid_t)>& look) {
    daemon_.StartWorker();
    const pid_t pid = daemon_.process().pid();
    return daemon_.Converse(
        daemon_.Request(server_->url(), "app", "1"), [&](const LayerQuestion& question) {
          look(pid);
          return std::vector<LayerAnswer>{{question.index, LayerDecision::kFetch}};
        });
  }

  static std::vector<pid_t> Children(pid_t pid) {
    std::vector<pid_t> children;
    for (const std::string& entry :
         base::ListDirectory("/proc").value_or(std::vector<std::string>())) {
      if (StatusLine("/proc/" + entry + "/status", "PPid") == std::to_string(pid)) {
        children.push_back(std::stoi(entry));
      }
    }
    return children;
  }

  TestDaemon daemon_;
  TempDirectory layout_directory_;
  TestLayout layout_{layout_directory_.path()};
  TestLayout::Blob root_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(LiveWorkerTest, EveryThreadIsConfinedAndWithoutCapabilities) {
  const PullOutcome outcome = LookAtWorker([](pid_t pid) {
    const std::string tasks = base::StrCat("/proc/", pid, "/task");
    const auto threads = base::ListDirectory(tasks).value();
    EXPECT_GE(threads.size(), 3u);
    for (const std::string& thread : threads) {
      const std::string status = base::StrCat(tasks, "/", thread, "/status");
      EXPECT_EQ(StatusLine(status, "Seccomp"), "2");
      EXPECT_EQ(StatusLine(status, "NoNewPrivs"), "1");
      EXPECT_EQ(StatusLine(status, "CapEff"), "0000000000000000");
      EXPECT_EQ(StatusLine(status, "CapPrm"), "0000000000000000");
    }
  });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(LiveWorkerTest, TheForkerHasOnlyTheParsersCapabilitiesAndChroot) {
  const PullOutcome outcome = LookAtWorker([](pid_t pid) {
    const std::vector<pid_t> children = Children(pid);
    ASSERT_EQ(children.size(), 1u);
    const std::string status = base::StrCat("/proc/", children[0], "/status");
    EXPECT_EQ(StatusLine(status, "Seccomp"), "2");
    // CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, SYS_CHROOT 18, SETFCAP 31.
    EXPECT_EQ(std::stoul(StatusLine(status, "CapEff"), nullptr, 16) & ~0x8004001bUL, 0u);
  });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

// The sockets of a process, as /proc names them.
std::set<std::string> Sockets(pid_t pid) {
  const std::string directory = base::StrCat("/proc/", pid, "/fd");
  std::set<std::string> sockets;
  for (const std::string& fd :
       base::ListDirectory(directory).value_or(std::vector<std::string>())) {
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(directory + "/" + fd, error);
    if (target.starts_with("socket:")) sockets.insert(target);
  }
  return sockets;
}

TEST_F(LiveWorkerTest, TheNetworkProcessAndVerifiersHaveDifferentSocketsToTheDaemon) {
  const PullOutcome outcome = LookAtWorker([](pid_t pid) {
    const std::vector<pid_t> children = Children(pid);
    ASSERT_EQ(children.size(), 1u);
    const std::set<std::string> network = Sockets(pid);
    const std::set<std::string> forker = Sockets(children[0]);
    EXPECT_EQ(forker.size(), 2u) << "orders and verdicts";
    for (const std::string& socket : forker) {
      EXPECT_FALSE(network.contains(socket)) << socket;
    }
  });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(LiveWorkerTest, PullsOnAKernelWithoutLandlockAfterAWarning) {
  PullOutcome outcome;
  // Filters are a thread's own, and its children's.
  std::thread old_kernel([&] {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
    seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(landlock_create_ruleset), 0);
    ASSERT_EQ(seccomp_load(filter), 0);
    seccomp_release(filter);
    outcome = daemon_.Pull(daemon_.Request(server_->url(), "app", "1"));
  });
  old_kernel.join();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(outcome.warnings.size(), 1u);
  EXPECT_NE(outcome.warnings[0].find("no Landlock"), std::string::npos);
  EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 0) + "/f").value(), "x");
}

TEST_F(LiveWorkerTest, UsesLittleMemory) {
  const PullOutcome outcome = LookAtWorker([](pid_t pid) {
    const std::string kilobytes = StatusLine(base::StrCat("/proc/", pid, "/status"), "VmRSS");
    RecordProperty("rss", kilobytes);
#ifndef __SANITIZE_ADDRESS__
    EXPECT_LT(std::stoi(kilobytes.substr(kilobytes.find_first_not_of(' '))), 40'000) << kilobytes;
#endif
  });
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

// Waits until nobody holds the lock on the staging directory.
bool IsStagingFree(const std::string& path) {
  const base::UniqueFd staging(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (flock(staging.get(), LOCK_EX | LOCK_NB) != 0) {
    if (absl::Now() > deadline) return false;
    sched_yield();
  }
  return true;
}

TEST_F(LiveWorkerTest, KillingItFreesTheStagingDirectory) {
  LookAtWorker([this](pid_t) {
    const base::UniqueFd staging(open(daemon_.staging().c_str(), O_RDONLY | O_DIRECTORY));
    EXPECT_NE(flock(staging.get(), LOCK_EX | LOCK_NB), 0) << "held while it lives";
    EXPECT_TRUE(daemon_.process().Kill(SIGKILL).ok());
  });
  EXPECT_TRUE(IsStagingFree(daemon_.staging())) << "the forker has died with it";
}

TEST_F(LiveWorkerTest, ClosingTheChannelEndsIt) {
  daemon_.StartWorker();
  const base::Context ctx = base::Context().WithTimeout(absl::Seconds(20));
  const PullRequest request = daemon_.Request(server_->url(), "app", "1");
  ASSERT_TRUE(daemon_.channel().Send(ctx, Encode(DaemonMessage(request))).ok());
  ASSERT_TRUE(daemon_.channel().Receive(ctx).ok());
  daemon_.CloseChannel();
  EXPECT_TRUE(daemon_.process().Wait(ctx).ok());
  EXPECT_TRUE(IsStagingFree(daemon_.staging()));
}

TEST_F(LiveWorkerTest, TwoWorkersCannotShareAStagingDirectory) {
  LookAtWorker([this](pid_t) {
    TestDaemon other;
    PullRequest request = daemon_.Request(server_->url(), "app", "1");
    EXPECT_FALSE(other.Pull(request).status.ok());
  });
}

}  // namespace
}  // namespace imageservice::worker
