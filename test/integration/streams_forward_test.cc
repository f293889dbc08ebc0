// Port-forward: loopback of both families, pods on the host's network, many at once, failures.
#include <map>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/pod_server.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

using testing::HasSubstr;

class StreamsForwardTest : public StreamsFixture,
                           public testing::WithParamInterface<ForwardTransport> {
 protected:
  absl::StatusOr<std::unique_ptr<ForwardSession>> Open(std::string_view pod_id = "") const {
    ASSIGN_OR_RETURN(const std::string url, ForwardUrl(pod_id));
    return ForwardSession::Open(url, GetParam());
  }
  // "hello" there and back over a new connection.
  static absl::StatusOr<std::string> Hello(ForwardSession& session, uint16_t port) {
    ASSIGN_OR_RETURN(const size_t connection, session.Connect(port));
    RETURN_IF_ERROR(session.Send(connection, "hello"));
    RETURN_IF_ERROR(session.Finish(connection));
    std::string text;
    while (true) {
      ASSIGN_OR_RETURN(const ForwardEvent event, session.Next(kAnswer));
      if (event.kind == ForwardEvent::Kind::kError) return base::StrCat("error: ", event.bytes);
      if (event.kind == ForwardEvent::Kind::kClosed) return absl::UnavailableError("closed");
      if (event.connection != connection) continue;
      if (event.kind == ForwardEvent::Kind::kEnded) return text;
      if (event.kind == ForwardEvent::Kind::kData) text += event.bytes;
    }
  }
};

TEST_P(StreamsForwardTest, LoopbackOfBothFamiliesIsReached) {
  ASSERT_OK_AND_ASSIGN(auto session, Open());
  for (const char* address : {"127.0.0.1", "::1"}) {
    ASSERT_OK_AND_ASSIGN(const auto echo, PodServer::Start(NetworkNamespace(pod()), address,
                                                           PodServer::Kind::kEcho));
    EXPECT_EQ(Hello(*session, echo->port()).value_or("failed"), "hello") << address;
  }
}

TEST_P(StreamsForwardTest, APodOnTheHostsNetworkIsReached) {
  cri::RunPodSandboxRequest request = PodRequest("host");
  request.mutable_config()->clear_hostname();
  request.mutable_config()
      ->mutable_linux()
      ->mutable_security_context()
      ->mutable_namespace_options()
      ->set_network(cri::NODE);
  ASSERT_OK_AND_ASSIGN(const std::string host, RunPod(request));
  ASSERT_OK_AND_ASSIGN(const auto echo, PodServer::Start("", "127.0.0.1", PodServer::Kind::kEcho));
  ASSERT_OK_AND_ASSIGN(auto session, Open(host));
  EXPECT_EQ(Hello(*session, echo->port()).value_or("failed"), "hello");
  // What listens on the host is not in the other pod.
  ASSERT_OK_AND_ASSIGN(auto inside, Open());
  EXPECT_THAT(Hello(*inside, echo->port()).value_or(""), HasSubstr("refused"));
}

TEST_P(StreamsForwardTest, ARefusedPortIsToldOnItsErrorStreamAndTheOthersGoOn) {
  ASSERT_OK_AND_ASSIGN(const auto echo, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                         PodServer::Kind::kEcho));
  ASSERT_OK_AND_ASSIGN(auto session, Open());
  ASSERT_OK_AND_ASSIGN(const size_t good, session->Connect(echo->port()));
  ASSERT_OK(session->Send(good, "one"));
  ASSERT_OK_AND_ASSIGN(const size_t bad, session->Connect(1));
  std::string text;
  std::string echoed;
  bool reset = false;
  while (echoed != "one" || text.empty() || !reset) {
    ASSERT_OK_AND_ASSIGN(const ForwardEvent event, session->Next(kAnswer));
    ASSERT_NE(event.kind, ForwardEvent::Kind::kClosed);
    if (event.kind == ForwardEvent::Kind::kError) text += event.bytes;
    if (event.kind == ForwardEvent::Kind::kReset) reset = event.connection == bad;
    if (event.kind == ForwardEvent::Kind::kData) echoed += event.bytes;
  }
  EXPECT_THAT(text, HasSubstr("port 1"));
  EXPECT_THAT(text, HasSubstr("refused"));
  EXPECT_EQ(Hello(*session, echo->port()).value_or("failed"), "hello");
}

TEST_P(StreamsForwardTest, HundredsAtOnceDoNotMeet) {
  constexpr size_t kConnections = 300;
  ASSERT_OK_AND_ASSIGN(const auto echo, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                         PodServer::Kind::kEcho));
  ASSERT_OK_AND_ASSIGN(auto warm, Open());
  ASSERT_EQ(Hello(*warm, echo->port()).value_or("failed"), "hello");
  warm.reset();
  ASSERT_TRUE(Eventually([&] { return StreamState().threads == 1; }));
  const StreamServerState idle = StreamState();
  ASSERT_OK_AND_ASSIGN(auto session, Open());
  for (size_t i = 0; i < kConnections; ++i) {
    ASSERT_OK(session->Connect(echo->port()));
    ASSERT_OK(session->Send(i, base::StrCat("connection ", i)));
  }
  for (size_t i = 0; i < kConnections; ++i) ASSERT_OK(session->Finish(i));
  std::map<size_t, std::string> texts;
  size_t ended = 0;
  while (ended < kConnections) {
    ASSERT_OK_AND_ASSIGN(const ForwardEvent event, session->Next(kAnswer));
    ASSERT_NE(event.kind, ForwardEvent::Kind::kClosed);
    ASSERT_NE(event.kind, ForwardEvent::Kind::kError) << event.bytes;
    if (event.kind == ForwardEvent::Kind::kData) texts[event.connection] += event.bytes;
    if (event.kind == ForwardEvent::Kind::kEnded) ++ended;
  }
  for (size_t i = 0; i < kConnections; ++i) EXPECT_EQ(texts[i], base::StrCat("connection ", i));
  session.reset();
  EXPECT_TRUE(ReturnsTo(idle));
}

TEST_P(StreamsForwardTest, ATargetThatResetsOrNeverReadsHurtsItsOwnConnectionOnly) {
  ASSERT_OK_AND_ASSIGN(const auto echo, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                         PodServer::Kind::kEcho));
  ASSERT_OK_AND_ASSIGN(const auto rude, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                         PodServer::Kind::kReset));
  ASSERT_OK_AND_ASSIGN(auto session, Open());
  ASSERT_OK_AND_ASSIGN(const size_t broken, session->Connect(rude->port()));
  ASSERT_OK(session->Send(broken, "x"));
  EXPECT_EQ(Hello(*session, echo->port()).value_or("failed"), "hello");
  // Nobody reads there; another connection of another client must not notice.
  ASSERT_OK_AND_ASSIGN(const auto silent, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                           PodServer::Kind::kSilent));
  ASSERT_OK_AND_ASSIGN(const size_t stuck, session->Connect(silent->port()));
  const std::string piece(32 << 10, 'x');
  for (int i = 0; i < 16; ++i) ASSERT_OK(session->Send(stuck, piece));
  ASSERT_OK_AND_ASSIGN(auto other, Open());
  EXPECT_EQ(Hello(*other, echo->port()).value_or("failed"), "hello");
}

TEST_P(StreamsForwardTest, TheEndOfThePodEndsItsConnections) {
  ASSERT_OK(RunContainer(pod(), "server", "sleep 4321 | nc -l -p 7000"));
  ASSERT_OK_AND_ASSIGN(auto session, Open());
  // It listens when it does; what it gets is its output.
  ASSERT_TRUE(Eventually([&] {
    const auto connection = session->Connect(7000);
    if (!connection.ok() || !session->Send(*connection, "came\n").ok()) return false;
    // What the attempts before it have left.
    while (session->Next(absl::Milliseconds(50)).ok()) {
    }
    return absl::StrContains(ReadLog("pod", "server.log"), "came");
  }));
  ASSERT_OK(RemovePod(pod()));
  ASSERT_OK_AND_ASSIGN(const ForwardEvent end, session->Next(kAnswer));
  EXPECT_NE(end.kind, ForwardEvent::Kind::kData) << end.bytes;
  session.reset();
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }))
      << testing::PrintToString(Leftovers());
}

INSTANTIATE_TEST_SUITE_P(All, StreamsForwardTest,
                         testing::Values(ForwardTransport::kSpdy, ForwardTransport::kTunnel),
                         [](const auto& parameter) {
                           return parameter.param == ForwardTransport::kSpdy ? "Spdy" : "Tunnel";
                         });

class StreamsChannelForwardTest : public StreamsFixture {};

// The i-th port of the request has channel 2i for its bytes and 2i + 1 for its errors.
TEST_F(StreamsChannelForwardTest, TheOldWebSocketProtocolCarriesThePortsOfTheRequest) {
  ASSERT_OK_AND_ASSIGN(const auto echo, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                         PodServer::Kind::kEcho));
  cri::PortForwardRequest request;
  request.set_pod_sandbox_id(pod());
  request.add_port(1);
  request.add_port(echo->port());
  ASSERT_OK_AND_ASSIGN(const cri::PortForwardResponse answer,
                       client().Call(&RuntimeStub::PortForward, request));
  std::string chosen;
  ASSERT_OK_AND_ASSIGN(auto socket, ConnectWebSocket(answer.url(), "v4.channel.k8s.io", {},
                                                     Masking::kRandom, &chosen));
  EXPECT_EQ(chosen, "v4.channel.k8s.io");
  ASSERT_OK(socket->Send(Opcode::kBinary, std::string_view("\2", 1), "hello"));
  std::map<int, std::string> channels;
  int channel = 0;
  while (channels[2].size() < 7 || channels[1].find("refused") == std::string::npos) {
    ASSERT_OK_AND_ASSIGN(const WebSocketEvent event, socket->Next(kAnswer));
    ASSERT_EQ(event.kind, WebSocketEvent::Kind::kData);
    std::string_view bytes = event.bytes;
    if (event.begins && !bytes.empty()) {
      channel = bytes[0];
      bytes.remove_prefix(1);
    }
    channels[channel] += bytes;
  }
  // Each begins with its port, the low byte first.
  const auto port = [](uint16_t number) {
    return std::string{static_cast<char>(number & 0xff), static_cast<char>(number >> 8)};
  };
  EXPECT_EQ(channels[0], port(1));
  EXPECT_TRUE(channels[1].starts_with(port(1)));
  EXPECT_EQ(channels[2], port(echo->port()) + "hello");
  EXPECT_EQ(channels[3], port(echo->port()));
}

}  // namespace
}  // namespace test
