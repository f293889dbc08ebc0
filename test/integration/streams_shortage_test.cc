// crisp-stream under signals and shortages, and beside execs whose runtime hangs.
#include <signal.h>
#include <sys/resource.h>

#include <string>
#include <thread>
#include <vector>

#include "test/integration/stream_servers.h"

namespace test {
namespace {

using base::StrCat;
using testing::IsEmpty;
using testing::SizeIs;

using StreamShortageTest = StreamServersTest;

TEST_F(StreamShortageTest, WithoutDescriptorsAConnectionWaits) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "SKIP: a build without sanitizers, whose checks need descriptors";
#endif
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo out-of-it"));
  const pid_t server = Servers().at(0);
  rlimit before = {};
  ASSERT_EQ(prlimit(server, RLIMIT_NOFILE, nullptr, &before), 0);
  const rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
  ASSERT_EQ(prlimit(server, RLIMIT_NOFILE, &none, nullptr), 0);
  std::thread caller([&] {
    const auto session = CommandSession::Open(url, kOutput);
    ASSERT_OK(session);
    ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, (*session)->ReadAll());
    EXPECT_EQ(outcome.out, "out-of-it\n");
  });
  EXPECT_TRUE(Eventually([&] {
    return daemon().Log().find("a connection waits or is refused: Too many open files") !=
           std::string::npos;
  }));
  EXPECT_EQ(prlimit(server, RLIMIT_NOFILE, &before, nullptr), 0);
  caller.join();
}

TEST_F(StreamShortageTest, ASignalToEndIsObeyedAndTheNextRequestStartsAnother) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo begun; exec sleep 4322"));
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadUntil("begun"));
  const std::vector<pid_t> before = Servers();
  ASSERT_EQ(kill(before.at(0), SIGTERM), 0);
  EXPECT_TRUE(Eventually([&] { return Folders().empty(); }));
  EXPECT_THAT(Processes("pod"), SizeIs(1));
  ASSERT_OK(ExecUrl());
  EXPECT_NE(Servers(), before);
}

TEST_F(StreamShortageTest, AShutdownEndsItOnceItIsIdle) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo out-of-it"));
  // What systemd sends to crisp-monitors.service when the machine shuts down.
  ASSERT_EQ(kill(Servers().at(0), SIGCONT), 0);
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadAll());
  EXPECT_TRUE(Eventually([&] { return Servers().empty() && Folders().empty(); }));
}

// With a runtime that hangs in an exec whose process object says so.
class HangingExecTest : public StreamServersTest {
 protected:
  void Prepare() override {
    const std::string script = StrCat(environment().Get("RUN"), "/hanging-crun");
    ASSERT_OK(base::ReplaceFile(script,
                                "#!/bin/sh\n"
                                "for word; do case $word in */process.json)\n"
                                "  grep -q hang-here $word && exec sleep 1000;;\n"
                                "esac; done\n"
                                "exec /usr/bin/crun \"$@\"\n",
                                0755, base::Durability::kVolatile));
    ASSERT_OK(environment().EditConfig(
        "[crisp.image]",
        StrCat("[crisp.runtime.runtimes.crun]\nruntime_path = \"", script, "\"\n\n[crisp.image]")));
  }
};

TEST_F(HangingExecTest, TheEndOfAnExecSyncSparesTheCommandsOfStreams) {
  ASSERT_OK_AND_ASSIGN(const std::string url,
                       ExecUrl("echo begun; until test -e /tmp/go; do sleep 0.1; done; echo went"));
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadUntil("begun"));
  // It ends without a pid: all that nobody waits for in the container is taken for its own.
  EXPECT_THAT(Exec(container_, {"echo", "hang-here"}, 1),
              HasCode(absl::StatusCode::kDeadlineExceeded));
  ASSERT_OK(Exec(container_, {"touch", "/tmp/go"}));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.out, "begun\nwent\n");
}

TEST_F(HangingExecTest, ARuntimeThatHangsEndsWithTheStreamServer) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo hang-here"));
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  EXPECT_TRUE(Eventually([&] { return InCgroup().size() > 2; }));
  ASSERT_EQ(kill(Servers().at(0), SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return Folders().empty(); }));
  EXPECT_THAT(InCgroup(), IsEmpty());
  EXPECT_THAT(Processes("pod"), SizeIs(1));
}

}  // namespace
}  // namespace test
