// What lives on and what ends when daemons, crisp-stream, clients and containers are killed.
// CRISP_CRASH_ROUNDS and CRISP_CRASH_SEED change how often and when.
#include <signal.h>

#include <atomic>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/pod_server.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

class StreamsRestartTest : public StreamsFixture, public testing::WithParamInterface<Transport> {
 protected:
  // Numbered lines from first on, until line `last` is there; they must have no gap.
  static void ExpectLines(CommandSession& session, const std::string& last) {
    ASSERT_OK_AND_ASSIGN(const std::string text, session.ReadUntil(last));
    std::string expected;
    for (int i = 1; expected.size() < text.size(); ++i) expected += base::StrCat("line ", i, "\n");
    EXPECT_EQ(text, expected.substr(0, text.size()));
  }
  // SIGKILL to crisp-stream if it runs. A number is looked up once: -1 would be everybody.
  static void KillProcess(pid_t pid) {
    if (pid > 1) kill(pid, SIGKILL);
  }
  // No process of an exec, no folder, no mount, no process in crisp-stream's cgroup but itself.
  void ExpectNothingLeft() const {
    EXPECT_TRUE(Eventually([&] { return !Runs("4321"); })) << "a command lives";
    EXPECT_TRUE(Eventually([&] { return SessionFolders().empty(); }))
        << testing::PrintToString(SessionFolders());
    EXPECT_TRUE(Eventually([&] {
      return base::CgroupProcesses(environment().Get("CGROUP") + "/streams").size() <= 1;
    }));
  }
};

TEST_P(StreamsRestartTest, ASessionGoesOnWhileTheDaemonIsKilledAndStartedAgain) {
  ASSERT_OK_AND_ASSIGN(auto session,
                       OpenExec("i=1; while read x; do echo line $i; i=$((i+1)); done; exit 9",
                                Streams(GetParam(), "ioe")));
  ASSERT_OK(session->Send(Channel::kStdin, "a\nb\n"));
  ExpectLines(*session, "line 2\n");
  ASSERT_OK(daemon().Crash());
  ASSERT_OK(session->Send(Channel::kStdin, "c\n"));
  ExpectLines(*session, "line 3\n");
  ASSERT_OK(daemon().Start());
  ASSERT_OK(session->Send(Channel::kStdin, "d\n"));
  ExpectLines(*session, "line 4\n");
  ASSERT_OK(daemon().Stop());
  ASSERT_OK(daemon().Start());
  ASSERT_OK(session->Send(Channel::kStdin, "e\n"));
  ExpectLines(*session, "line 5\n");
  ASSERT_OK(session->FinishInput());
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.exit_code(), 9) << outcome.status;
}

TEST_P(StreamsRestartTest, BytesFlowExactlyThroughRestartsOfTheDaemon) {
  ASSERT_OK_AND_ASSIGN(const auto echo, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                         PodServer::Kind::kEcho));
  ASSERT_OK_AND_ASSIGN(const std::string url, ForwardUrl());
  ASSERT_OK_AND_ASSIGN(auto forward, ForwardSession::Open(url, GetParam() == Transport::kSpdy
                                                                   ? ForwardTransport::kSpdy
                                                                   : ForwardTransport::kTunnel));
  ASSERT_OK_AND_ASSIGN(const size_t connection, forward->Connect(echo->port()));
  ASSERT_OK_AND_ASSIGN(auto session, OpenExec("cat", Streams(GetParam(), "io")));
  constexpr size_t kPiece = 4 << 10;
  std::atomic<bool> ending = false;
  std::atomic<size_t> pieces = 0;
  std::thread writer([&] {
    TestBytes bytes(5);
    while (!ending) {
      const std::string_view piece = bytes.Next(kPiece);
      if (!session->Send(Channel::kStdin, piece).ok()) return;
      if (!forward->Send(connection, piece).ok()) return;
      ++pieces;
    }
    session->FinishInput().IgnoreError();
    forward->Finish(connection).IgnoreError();
  });
  ByteSum of_port;
  absl::Status port_end;
  std::thread port_reader([&] {
    while (true) {
      const auto event = forward->Next(kAnswer);
      port_end = event.status();
      if (!event.ok() || event->kind == ForwardEvent::Kind::kEnded) return;
      if (event->kind == ForwardEvent::Kind::kData) of_port.Add(event->bytes);
    }
  });
  std::thread restarts([&] {
    for (int i = 0; i < 3; ++i) {
      const size_t before = pieces;
      EXPECT_OK(CrashAndRestart());
      EXPECT_TRUE(Eventually([&] { return pieces > before + 100; }));
    }
    ending = true;
  });
  ByteSum of_command;
  while (!session->done()) {
    const auto event = session->Next(kAnswer);
    EXPECT_OK(event);
    if (!event.ok()) break;
    if (event->kind == CommandEvent::Kind::kData && event->channel == Channel::kStdout) {
      of_command.Add(event->bytes);
    }
  }
  restarts.join();
  writer.join();
  port_reader.join();
  EXPECT_OK(port_end);
  ByteSum expected;
  TestBytes bytes(5);
  for (size_t i = 0; i < pieces; ++i) expected.Add(bytes.Next(kPiece));
  EXPECT_EQ(of_command.Text(), expected.Text());
  EXPECT_EQ(of_port.Text(), expected.Text());
}

TEST_P(StreamsRestartTest, ADeadStreamServerEndsItsClientsAndTheirCommands) {
  ASSERT_OK_AND_ASSIGN(
      auto session, OpenExec("sleep 4321 & echo started; sleep 4321", Streams(GetParam(), "io")));
  ASSERT_OK_AND_ASSIGN(auto terminal,
                       OpenExec("echo started; sleep 4321", Streams(GetParam(), "iot")));
  ASSERT_OK(session->ReadUntil("started"));
  ASSERT_OK(terminal->ReadUntil("started"));
  ASSERT_TRUE(Runs("4321"));
  KillProcess(StreamServer());
  const auto end = session->ReadAll();
  EXPECT_TRUE(!end.ok() || !end->complete) << "no success is said";
  ExpectNothingLeft();
  ASSERT_OK_AND_ASSIGN(const CommandOutcome next, RunExec("echo on", Streams(GetParam(), "o")));
  EXPECT_EQ(next.out, "on\n");
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container()));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
}

TEST_P(StreamsRestartTest, CommandsOfADeadStreamServerEndWithTheNextStartOfTheDaemon) {
  ASSERT_OK_AND_ASSIGN(auto session,
                       OpenExec("echo started; sleep 4321", Streams(GetParam(), "io")));
  ASSERT_OK(session->ReadUntil("started"));
  const pid_t server = StreamServer();
  ASSERT_OK(daemon().Crash());
  ASSERT_GT(server, 1);
  KillProcess(server);
  ASSERT_OK(daemon().Start());
  ExpectNothingLeft();
}

// As CRI-O: stdin ends, the outputs are closed, and that is all.
TEST_P(StreamsRestartTest, ACommandWhoseClientVanishedGetsTheEndOfItsInput) {
  ASSERT_OK(RunExec("true", Streams(GetParam(), "o")));
  ASSERT_TRUE(Eventually([&] { return SessionFolders().empty(); }));
  const StreamServerState idle = StreamState();
  ASSERT_OK_AND_ASSIGN(auto session, OpenExec("echo started; cat > /tmp/kept; touch /tmp/ended",
                                              Streams(GetParam(), "io")));
  ASSERT_OK(session->ReadUntil("started"));
  ASSERT_OK(session->Send(Channel::kStdin, "all of it"));
  // Sent is not received: a reset drops what the server has not read.
  ASSERT_TRUE(Eventually([&] {
    const auto kept = Exec(container(), {"cat", "/tmp/kept"});
    return kept.ok() && kept->stdout() == "all of it";
  }));
  session->wire().Reset();
  EXPECT_TRUE(
      Eventually([&] { return Exec(container(), {"ls", "/tmp/ended"})->exit_code() == 0; }));
  EXPECT_TRUE(ReturnsTo(idle));
}

TEST_P(StreamsRestartTest, ATerminalWhoseClientVanishedIsHungUp) {
  ASSERT_OK_AND_ASSIGN(auto session,
                       OpenExec("echo started; exec sleep 4321", Streams(GetParam(), "iot")));
  ASSERT_OK(session->ReadUntil("started"));
  ASSERT_TRUE(Runs("4321"));
  session->wire().Reset();
  ExpectNothingLeft();
}

TEST_P(StreamsRestartTest, ACommandThatGoesOnWithoutItsClientEndsWithItsContainer) {
  ASSERT_OK_AND_ASSIGN(auto session,
                       OpenExec("echo started; exec sleep 4321", Streams(GetParam(), "o")));
  ASSERT_OK(session->ReadUntil("started"));
  session->wire().Reset();
  session.reset();
  ASSERT_OK(StopContainer(container(), 0));
  ASSERT_OK(RemoveContainer(container()));
  ExpectNothingLeft();
}

// Many execs come and go while daemon or crisp-stream is killed; afterwards all is as if nobody had
// ever been there.
TEST_P(StreamsRestartTest, KillsAtAnyMomentLeaveNothing) {
  const unsigned rounds = EnvironmentNumber("CRISP_CRASH_ROUNDS", 6);
  const unsigned seed = EnvironmentNumber("CRISP_CRASH_SEED", std::random_device()());
  SCOPED_TRACE(base::StrCat("CRISP_CRASH_SEED=", seed));
  std::mt19937 random(seed);
  for (unsigned round = 0; round < rounds; ++round) {
    std::atomic<bool> ending = false;
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller) {
      callers.emplace_back([&, caller] {
        while (!ending) {
          auto session = OpenExec(caller == 0 ? "sleep 4321" : "echo $$; sleep 0.01",
                                  Streams(GetParam(), caller == 2 ? "iot" : "io"));
          if (!session.ok() || caller == 0) {
            absl::Status waited;
            // The one that stays is left when the round is over.
            while (session.ok() && !ending) {
              waited = (*session)->Next(absl::Milliseconds(20)).status();
              if (!waited.ok() && !absl::IsDeadlineExceeded(waited)) break;
            }
            continue;
          }
          (*session)->ReadAll().status().IgnoreError();
        }
      });
    }
    const absl::Time moment = absl::Now() + absl::Milliseconds(random() % 150);
    Eventually([&] { return absl::Now() >= moment; });
    const bool stream_too = random() % 3 != 0;
    const bool daemon_too = random() % 3 != 0;
    if (stream_too) KillProcess(StreamServer());
    if (daemon_too) EXPECT_OK(daemon().Crash());
    if (random() % 2 == 0) KillProcess(StreamServer());
    ending = true;
    // Callers wait for it.
    if (daemon_too) EXPECT_OK(daemon().Start());
    for (std::thread& caller : callers) caller.join();
    // What a vanished client leaves running is its command's affair: the last server takes it
    // along.
    KillProcess(StreamServer());
    ASSERT_OK(RunExec("true", Streams(GetParam(), "o")));
    ExpectNothingLeft();
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
  ASSERT_OK(RemovePod(pod()));
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
}

INSTANTIATE_TEST_SUITE_P(All, StreamsRestartTest,
                         testing::Values(Transport::kSpdy, Transport::kWebSocket),
                         [](const auto& parameter) {
                           return parameter.param == Transport::kSpdy ? "Spdy" : "WebSocket";
                         });

}  // namespace
}  // namespace test
