// Exec through URLs: output, input, exit codes, terminals, in every protocol.
#include <thread>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/pod_server.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class StreamsExecTest : public StreamsFixture,
                        public testing::WithParamInterface<std::tuple<std::string, Transport>> {
 protected:
  StreamsExecTest() : StreamsFixture(std::get<0>(GetParam())) {}
  static Transport transport() { return std::get<1>(GetParam()); }
};

TEST_P(StreamsExecTest, OutputsApartAndTheExitCodeComeBack) {
  for (const int code : {0, 3, 137, 255}) {
    ASSERT_OK_AND_ASSIGN(
        const CommandOutcome outcome,
        RunExec(base::StrCat("echo out; echo err >&2; exit ", code), Streams(transport(), "oe")));
    EXPECT_EQ(outcome.out, "out\n");
    EXPECT_EQ(outcome.err, "err\n");
    EXPECT_EQ(outcome.exit_code(), code) << outcome.status;
    EXPECT_TRUE(outcome.complete);
  }
  ASSERT_OK_AND_ASSIGN(const CommandOutcome killed,
                       RunExec("kill -9 $$", Streams(transport(), "oe")));
  EXPECT_EQ(killed.exit_code(), 137) << killed.status;
  EXPECT_TRUE(Eventually([&] { return SessionFolders().empty(); }));
}

TEST_P(StreamsExecTest, InputReachesTheCommandAndItsEndToo) {
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome,
                       RunExec("cat; echo end", Streams(transport(), "ioe"), "hello\n"));
  EXPECT_EQ(outcome.out, "hello\nend\n");
  EXPECT_EQ(outcome.exit_code(), 0) << outcome.status;
  // Half-closed without a byte.
  ASSERT_OK_AND_ASSIGN(const CommandOutcome empty, RunExec("wc -c", Streams(transport(), "ioe")));
  EXPECT_EQ(empty.out, "0\n");
}

TEST_P(StreamsExecTest, StreamsThatWereNotAskedForAreNotThere) {
  ASSERT_OK_AND_ASSIGN(const CommandOutcome out,
                       RunExec("echo out; echo err >&2", Streams(transport(), "o")));
  EXPECT_EQ(out.out, "out\n");
  EXPECT_EQ(out.err, "");
  ASSERT_OK_AND_ASSIGN(const CommandOutcome err,
                       RunExec("echo out; echo err >&2", Streams(transport(), "e")));
  EXPECT_EQ(err.out, "");
  EXPECT_EQ(err.err, "err\n");
  ASSERT_OK_AND_ASSIGN(const CommandOutcome in,
                       RunExec("cat > /tmp/in", Streams(transport(), "i"), "kept"));
  EXPECT_EQ(in.exit_code(), 0) << in.status;
  ASSERT_OK_AND_ASSIGN(const CommandOutcome kept,
                       RunExec("cat /tmp/in", Streams(transport(), "o")));
  EXPECT_EQ(kept.out, "kept");
}

TEST_P(StreamsExecTest, ACommandMayCloseItsOutputsAndReadOn) {
  ASSERT_OK_AND_ASSIGN(auto session, OpenExec("exec >/dev/null 2>&1; cat > /tmp/closed; exit 4",
                                              Streams(transport(), "ioe")));
  TestBytes bytes(1);
  std::string sent;
  for (int i = 0; i < 64; ++i) {
    const std::string_view piece = bytes.Next(32 << 10);
    sent += piece;
    ASSERT_OK(session->Send(Channel::kStdin, piece));
  }
  ASSERT_OK(session->FinishInput());
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.exit_code(), 4) << outcome.status;
  ASSERT_OK_AND_ASSIGN(const CommandOutcome back,
                       RunExec("cat /tmp/closed", Streams(transport(), "o")));
  EXPECT_TRUE(back.out == sent) << back.out.size() << " of " << sent.size() << " bytes";
}

TEST_P(StreamsExecTest, ABackgroundChildDoesNotHoldTheSession) {
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome,
                       RunExec("sleep 4321 & echo done; exit 6", Streams(transport(), "oe")));
  EXPECT_EQ(outcome.out, "done\n");
  EXPECT_EQ(outcome.exit_code(), 6) << outcome.status;
  EXPECT_TRUE(Runs("4321")) << "it is the command's affair";
}

TEST_P(StreamsExecTest, ATerminalHasOneOutputAndFollowsTheClientsSize) {
  ASSERT_OK_AND_ASSIGN(auto session, OpenExec("stty -echo; echo ready; read line; stty size; tty; "
                                              "echo err >&2; exit 5",
                                              Streams(transport(), "iot")));
  ASSERT_OK(session->Resize(100, 40));
  ASSERT_OK(session->ReadUntil("ready"));
  ASSERT_OK(session->Resize(123, 45));
  ASSERT_OK(session->Send(Channel::kStdin, "go\n"));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_THAT(outcome.out, HasSubstr("45 123\r\n"));
  EXPECT_THAT(outcome.out, HasSubstr("/dev/pts/"));
  EXPECT_THAT(outcome.out, HasSubstr("err\r\n"));
  EXPECT_EQ(outcome.exit_code(), 5) << outcome.status;
}

TEST_P(StreamsExecTest, ACommandThatDoesNotExistIsAClearStatus) {
  const CommandOptions options = Streams(transport(), "oe");
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl({"/no/such/program"}, options));
  ASSERT_OK_AND_ASSIGN(auto session, CommandSession::Open(url, options));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_NE(outcome.exit_code(), 0) << outcome.status;
  EXPECT_THAT(base::StrCat(outcome.status, outcome.err), HasSubstr("/no/such/program"));
  EXPECT_TRUE(outcome.complete);
}

TEST_P(StreamsExecTest, AContainerThatIsKilledEndsItsExecsWithAClearStatus) {
  ASSERT_OK_AND_ASSIGN(auto session,
                       OpenExec("echo started; sleep 4321", Streams(transport(), "ioe")));
  ASSERT_OK(session->ReadUntil("started"));
  ASSERT_OK(StopContainer(container(), 0));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.exit_code(), 137) << outcome.status;
  EXPECT_THAT(outcome.status, HasSubstr("container")) << "it says why";
  EXPECT_TRUE(outcome.complete);
  session.reset();
  EXPECT_TRUE(Eventually([&] { return SessionFolders().empty(); }));
}

TEST_P(StreamsExecTest, AUrlIsGoodOnceAndForItsKindOnly) {
  const CommandOptions options = Streams(transport(), "oe");
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl({"true"}, options));
  ASSERT_OK_AND_ASSIGN(auto session, CommandSession::Open(url, options));
  ASSERT_OK(session->ReadAll());
  EXPECT_THAT(CommandSession::Open(url, options), HasCode(StatusCode::kNotFound));
  ASSERT_OK_AND_ASSIGN(std::string other, ExecUrl({"true"}, options));
  other.replace(other.find("/exec/"), 6, "/attach/");
  EXPECT_THAT(CommandSession::Open(other, options), HasCode(StatusCode::kNotFound));
}

TEST_P(StreamsExecTest, AClientThatStaysAfterTheEndHoldsNothing) {
  ASSERT_OK(RunExec("true", Streams(transport(), "oe")));
  ASSERT_TRUE(Eventually([&] { return SessionFolders().empty(); }));
  const StreamServerState idle = StreamState();
  ASSERT_OK_AND_ASSIGN(auto session, OpenExec("echo done", Streams(transport(), "ioe")));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.out, "done\n");
  EXPECT_TRUE(ReturnsTo(idle)) << "the connection is still open on this side";
}

TEST_P(StreamsExecTest, AHundredAtOnceLeaveNothing) {
  ASSERT_OK(RunExec("true", Streams(transport(), "oe")));
  ASSERT_TRUE(Eventually([&] { return SessionFolders().empty(); }));
  const StreamServerState idle = StreamState();
  ASSERT_GT(idle.pid, 0);
  constexpr size_t kSessions = 100;
  std::vector<std::unique_ptr<CommandSession>> sessions(kSessions);
  for (size_t i = 0; i < kSessions; ++i) {
    ASSERT_OK_AND_ASSIGN(sessions[i],
                         OpenExec(base::StrCat("read line; echo $line ", i, "; exit ", i),
                                  Streams(transport(), "ioe")));
  }
  for (const auto& session : sessions) ASSERT_OK(session->Send(Channel::kStdin, "hello\n"));
  for (size_t i = 0; i < kSessions; ++i) {
    ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, sessions[i]->ReadAll());
    EXPECT_EQ(outcome.out, base::StrCat("hello ", i, "\n"));
    EXPECT_EQ(outcome.exit_code(), static_cast<int>(i)) << outcome.status;
  }
  sessions.clear();
  EXPECT_TRUE(ReturnsTo(idle));
  EXPECT_TRUE(ServerHasAtMost(idle.pss_kib + 8 * 1024)) << "it had " << idle.pss_kib;
}

INSTANTIATE_TEST_SUITE_P(All, StreamsExecTest,
                         testing::Combine(testing::Values("crun", "runc"),
                                          testing::Values(Transport::kSpdy, Transport::kWebSocket)),
                         [](const auto& parameters) {
                           return std::get<0>(parameters.param) +
                                  (std::get<1>(parameters.param) == Transport::kSpdy ? "Spdy"
                                                                                     : "WebSocket");
                         });

class StreamsProtocolTest : public StreamsFixture {};

TEST_F(StreamsProtocolTest, OldProtocolsOfSpdySayFailureInTextAndSuccessInNothing) {
  for (const char* protocol : {"v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"}) {
    CommandOptions options = Streams(Transport::kSpdy, "ioe");
    options.protocols = {protocol};
    ASSERT_OK_AND_ASSIGN(const CommandOutcome good, RunExec("cat; echo err >&2", options, "in"));
    EXPECT_EQ(good.out, "in");
    EXPECT_EQ(good.err, "err\n");
    EXPECT_EQ(good.status, "") << protocol;
    ASSERT_OK_AND_ASSIGN(const CommandOutcome bad, RunExec("exit 3", options, "in"));
    EXPECT_THAT(bad.status, HasSubstr("3")) << protocol;
    EXPECT_THAT(bad.status, testing::Not(HasSubstr("{"))) << protocol;
  }
}

TEST_F(StreamsProtocolTest, EveryWebSocketProtocolCarriesACommand) {
  for (const char* protocol : {"v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io",
                               "v4.base64.channel.k8s.io", "base64.channel.k8s.io"}) {
    CommandOptions options = Streams(Transport::kWebSocket, "ioe");
    options.protocols = {protocol};
    ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome,
                         RunExec("head -c 5; echo err >&2; exit 3", options, "12345"));
    EXPECT_EQ(outcome.out, "12345") << protocol;
    EXPECT_EQ(outcome.err, "err\n") << protocol;
    if (absl::StartsWith(protocol, "v")) {
      EXPECT_EQ(outcome.exit_code(), 3) << protocol << outcome.status;
    } else {
      EXPECT_THAT(outcome.status, HasSubstr("3")) << protocol;
    }
    EXPECT_TRUE(outcome.complete) << protocol;
  }
}

TEST_F(StreamsProtocolTest, TheFirstProtocolInTheClientsListThatIsKnownIsChosen) {
  CommandOptions options = Streams(Transport::kSpdy, "oe");
  options.protocols = {"v9.channel.k8s.io", "v5.channel.k8s.io", "v3.channel.k8s.io",
                       "v4.channel.k8s.io"};
  ASSERT_OK_AND_ASSIGN(const auto session, OpenExec("true", options));
  EXPECT_EQ(session->protocol(), "v3.channel.k8s.io");
  options.protocols = {"v9.channel.k8s.io"};
  EXPECT_THAT(OpenExec("true", options).status().message(), HasSubstr("HTTP 403"));
  options.transport = Transport::kWebSocket;
  options.protocols = {"v9.channel.k8s.io", "v5.channel.k8s.io", "v4.channel.k8s.io"};
  ASSERT_OK_AND_ASSIGN(const auto socket, OpenExec("true", options));
  EXPECT_EQ(socket->protocol(), "v5.channel.k8s.io");
}

TEST_F(StreamsProtocolTest, PingsAreAnsweredWhileOutputFlows) {
  for (const Transport transport : {Transport::kSpdy, Transport::kWebSocket}) {
    ASSERT_OK_AND_ASSIGN(auto session, OpenExec("yes", Streams(transport, "o")));
    ASSERT_OK(session->Ping());
    CommandEvent event;
    do {
      ASSERT_OK_AND_ASSIGN(event, session->Next(kAnswer));
      ASSERT_FALSE(session->done());
    } while (event.kind != CommandEvent::Kind::kPing);
  }
}

TEST_F(StreamsProtocolTest, APodWithAUserNamespaceHasStreamsToo) {
  cri::RunPodSandboxRequest request = PodRequest("mapped");
  cri::NamespaceOption* namespaces = request.mutable_config()
                                         ->mutable_linux()
                                         ->mutable_security_context()
                                         ->mutable_namespace_options();
  cri::UserNamespace* user = namespaces->mutable_userns_options();
  user->set_mode(cri::POD);
  for (cri::IDMapping* mapping : {user->add_uids(), user->add_gids()}) {
    mapping->set_host_id(300000);
    mapping->set_length(65536);
  }
  ASSERT_OK_AND_ASSIGN(const std::string mapped, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const std::string inside, RunContainer(mapped, "m", "exec sleep 100000"));
  ASSERT_OK_AND_ASSIGN(const auto echo, PodServer::Start(NetworkNamespace(mapped), "127.0.0.1",
                                                         PodServer::Kind::kEcho));
  for (const Transport transport : {Transport::kSpdy, Transport::kWebSocket}) {
    ASSERT_OK_AND_ASSIGN(auto session, OpenExec("id -u; cat; cut -c1-30 /proc/self/uid_map",
                                                Streams(transport, "io"), inside));
    ASSERT_OK(session->Send(Channel::kStdin, "to root\n"));
    ASSERT_OK(session->FinishInput());
    ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
    EXPECT_THAT(outcome.out, testing::StartsWith("0\nto root\n"));
    EXPECT_THAT(outcome.out, HasSubstr("300000"));
    ASSERT_OK_AND_ASSIGN(auto terminal, OpenExec("tty; exit 2", Streams(transport, "iot"), inside));
    ASSERT_OK_AND_ASSIGN(const CommandOutcome ended, terminal->ReadAll());
    EXPECT_THAT(ended.out, HasSubstr("/dev/pts/"));
    EXPECT_EQ(ended.exit_code(), 2) << ended.status;
  }
  ASSERT_OK_AND_ASSIGN(const std::string url, ForwardUrl(mapped));
  ASSERT_OK_AND_ASSIGN(auto forward, ForwardSession::Open(url, ForwardTransport::kSpdy));
  ASSERT_OK_AND_ASSIGN(const size_t connection, forward->Connect(echo->port()));
  ASSERT_OK(forward->Send(connection, "hello"));
  ASSERT_OK_AND_ASSIGN(const ForwardEvent event, forward->Next(kAnswer));
  EXPECT_EQ(event.kind, ForwardEvent::Kind::kData) << event.bytes;
}

}  // namespace
}  // namespace test
