// Attach: the streams of a container's init, for one client or several, quick and slow.
#include <thread>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

using testing::HasSubstr;

class StreamsAttachTest : public StreamsFixture, public testing::WithParamInterface<Transport> {
 protected:
  absl::StatusOr<std::string> RunWith(std::string_view name, std::string_view script, bool in,
                                      bool once, bool tty) const {
    cri::CreateContainerRequest request = ContainerRequest(pod(), name, script);
    request.mutable_config()->set_stdin(in);
    request.mutable_config()->set_stdin_once(once);
    request.mutable_config()->set_tty(tty);
    ASSIGN_OR_RETURN(std::string container, Create(request));
    RETURN_IF_ERROR(Start(container));
    return container;
  }
};

TEST_P(StreamsAttachTest, WithStdinOnceTheClientsEndIsTheContainersEnd) {
  ASSERT_OK_AND_ASSIGN(const std::string container,
                       RunWith("once", "cat; echo done; exit 3", true, true, false));
  ASSERT_OK_AND_ASSIGN(auto session, OpenAttach(Streams(GetParam(), "ioe"), container));
  ASSERT_OK(session->Send(Channel::kStdin, "hello\n"));
  ASSERT_OK(session->ReadUntil("hello\n"));
  ASSERT_OK(session->FinishInput());
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.out, "hello\ndone\n");
  EXPECT_EQ(outcome.exit_code(), 0) << "attach does not tell the container's: " << outcome.status;
  EXPECT_TRUE(outcome.complete);
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, WaitForExit(container));
  EXPECT_EQ(status.exit_code(), 3);
  EXPECT_EQ(ReadLog("pod", "once.log").find("hello") == std::string::npos, false);
}

TEST_P(StreamsAttachTest, WithStdinOpenClientsComeAndGo) {
  ASSERT_OK_AND_ASSIGN(const std::string container, RunWith("open", "cat", true, false, false));
  for (const char* text : {"first\n", "second\n", "third\n"}) {
    ASSERT_OK_AND_ASSIGN(auto session, OpenAttach(Streams(GetParam(), "ioe"), container));
    ASSERT_OK(session->Send(Channel::kStdin, text));
    ASSERT_OK_AND_ASSIGN(const std::string seen, session->ReadUntil(text));
    EXPECT_EQ(seen, text);
    // One leaves with an end of input, one without a word.
    if (text[0] == 'f') {
      ASSERT_OK(session->FinishInput());
    } else {
      session->wire().Reset();
    }
  }
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, Status(container));
  EXPECT_EQ(status.state(), cri::CONTAINER_RUNNING);
}

TEST_P(StreamsAttachTest, SeveralClientsSeeTheSameAndTheEnd) {
  ASSERT_OK_AND_ASSIGN(const std::string container,
                       RunWith("several", "while read x; do echo \"got $x\"; echo err >&2; done",
                               true, false, false));
  std::vector<std::unique_ptr<CommandSession>> sessions(5);
  for (auto& session : sessions) {
    ASSERT_OK_AND_ASSIGN(session, OpenAttach(Streams(GetParam(), "ioe"), container));
  }
  // Until each was taken in, output may come before it.
  for (size_t i = 0; i < sessions.size(); ++i) {
    ASSERT_OK(sessions[i]->Send(Channel::kStdin, base::StrCat("joined", i, "\n")));
    ASSERT_OK(sessions[i]->ReadUntil(base::StrCat("got joined", i, "\n")));
  }
  ASSERT_OK(sessions[0]->Send(Channel::kStdin, "word\n"));
  for (auto& session : sessions) ASSERT_OK(session->ReadUntil("got word\n"));
  ASSERT_OK(StopContainer(container, 0));
  for (auto& session : sessions) {
    ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
    EXPECT_THAT(outcome.err, HasSubstr("err\n"));
    EXPECT_EQ(outcome.exit_code(), 0) << outcome.status;
  }
}

TEST_P(StreamsAttachTest, ATerminalTakesTheClientsSize) {
  ASSERT_OK_AND_ASSIGN(
      const std::string container,
      RunWith("tty", "stty -echo; while read x; do stty size; done", true, false, true));
  ASSERT_OK_AND_ASSIGN(auto session, OpenAttach(Streams(GetParam(), "iot"), container));
  ASSERT_OK(session->Resize(111, 33));
  // The size travels apart from the input.
  std::string seen;
  for (int i = 0; i < 100 && !absl::StrContains(seen, "33 111\r\n"); ++i) {
    ASSERT_OK(session->Send(Channel::kStdin, "\n"));
    ASSERT_OK_AND_ASSIGN(const CommandEvent event, session->Next(kAnswer));
    if (event.channel == Channel::kStdout) seen += event.bytes;
  }
  EXPECT_THAT(seen, HasSubstr("33 111\r\n"));
}

TEST_P(StreamsAttachTest, AClientThatStopsReadingLosesBytesAndHoldsNobodyUp) {
  // 32 MiB, more than the sockets on the way hold, in pieces that the quick client asks for.
  constexpr int kPieces = 256;
  ASSERT_OK_AND_ASSIGN(
      const std::string container,
      RunWith("slow",
              "head -c 131071 /dev/zero | tr '\\0' x > /tmp/b; echo >> /tmp/b; i=0; "
              "while read x; do cat /tmp/b; i=$((i+1)); echo piece $i.; done",
              true, false, false));
  ASSERT_OK_AND_ASSIGN(auto slow, OpenAttach(Streams(GetParam(), "io"), container));
  ASSERT_OK_AND_ASSIGN(auto quick, OpenAttach(Streams(GetParam(), "ioe"), container));
  ASSERT_OK(quick->Send(Channel::kStdin, "\n"));
  ASSERT_OK(slow->ReadUntil("piece 1.\n"));
  std::string all;
  for (int i = 1; i < kPieces; ++i) {
    ASSERT_OK_AND_ASSIGN(all, quick->ReadUntil(base::StrCat("piece ", i, ".\n")));
    ASSERT_OK(quick->Send(Channel::kStdin, "\n"));
  }
  ASSERT_OK_AND_ASSIGN(all, quick->ReadUntil(base::StrCat("piece ", kPieces, ".\n")));
  EXPECT_THAT(all.find("skipped"), all.npos);
  EXPECT_GT(all.size(), size_t{kPieces} * 131072);
  ASSERT_OK_AND_ASSIGN(const std::string last,
                       RunProgram({"tail", "-n", "1", LogDirectory("pod") + "/slow.log"}));
  EXPECT_THAT(last, HasSubstr(base::StrCat("piece ", kPieces, "."))) << "the log does not wait";
  EXPECT_TRUE(ServerHasAtMost(24 * 1024));
  // When it has caught up it is told what it missed, and goes on.
  ASSERT_OK_AND_ASSIGN(const std::string rest, slow->ReadUntil(" bytes of output skipped"));
  EXPECT_LT(rest.size(), all.size());
  ASSERT_OK(quick->Send(Channel::kStdin, "\n"));
  ASSERT_OK(slow->ReadUntil(base::StrCat("piece ", kPieces + 1, ".\n")));
}

TEST_P(StreamsAttachTest, ASessionGoesOnWithoutTheDaemon) {
  ASSERT_OK_AND_ASSIGN(const std::string container, RunWith("on", "cat", true, false, false));
  ASSERT_OK_AND_ASSIGN(auto session, OpenAttach(Streams(GetParam(), "ioe"), container));
  ASSERT_OK(session->Send(Channel::kStdin, "one\n"));
  ASSERT_OK(session->ReadUntil("one\n"));
  ASSERT_OK(daemon().Crash());
  ASSERT_OK(session->Send(Channel::kStdin, "two\n"));
  ASSERT_OK(session->ReadUntil("two\n"));
  ASSERT_OK(daemon().Start());
  ASSERT_OK(session->Send(Channel::kStdin, "three\n"));
  ASSERT_OK(session->ReadUntil("three\n"));
}

INSTANTIATE_TEST_SUITE_P(All, StreamsAttachTest,
                         testing::Values(Transport::kSpdy, Transport::kWebSocket),
                         [](const auto& parameter) {
                           return parameter.param == Transport::kSpdy ? "Spdy" : "WebSocket";
                         });

}  // namespace
}  // namespace test
