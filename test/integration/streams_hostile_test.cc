// Clients that break every rule: their connection is closed, nobody else notices, and what they
// cost is given back.
#include <atomic>
#include <thread>

#include "base/strings.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

constexpr int64_t kMostKib = 32 * 1024;
constexpr absl::Duration kPatience = absl::Seconds(15);

class StreamsHostileTest : public StreamsFixture {
 protected:
  void Prepare() override {
    ASSERT_OK(environment().EditConfig("[crisp.api]", "[crisp.api]\nstream_creation_timeout = 2"));
  }
  void SetUp() override {
    StreamsFixture::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    for (const Transport transport : {Transport::kSpdy, Transport::kWebSocket}) {
      ASSERT_OK(RunExec("true", Streams(transport, "oe")));
    }
    ASSERT_TRUE(Eventually([&] { return SessionFolders().empty(); }));
    idle_ = StreamState();
    // A session that lives beside all of them.
    ASSERT_OK_AND_ASSIGN(witness_, OpenExec("cat", Streams(Transport::kSpdy, "io")));
    ASSERT_OK(witness_->Send(Channel::kStdin, "before\n"));
    ASSERT_OK(witness_->ReadUntil("before\n"));
  }
  // After whatever was done: the same server, no more memory than so much, the witness unharmed.
  void ExpectUnharmed() {
    EXPECT_EQ(StreamServer(), idle_.pid);
    EXPECT_TRUE(ServerHasAtMost(kMostKib));
    ASSERT_OK(witness_->Send(Channel::kStdin, "after\n"));
    ASSERT_OK(witness_->ReadUntil("after\n"));
    ASSERT_OK(witness_->FinishInput());
    ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, witness_->ReadAll());
    EXPECT_EQ(outcome.exit_code(), 0) << outcome.status;
    witness_.reset();
    EXPECT_TRUE(ReturnsTo(idle_));
  }
  // Reads until the server has closed, which it must within `patience`.
  static testing::AssertionResult Closes(Wire& wire, absl::Duration patience = kPatience) {
    char buffer[4096];
    while (true) {
      const auto count = wire.Read(buffer, sizeof(buffer), patience);
      if (absl::IsDeadlineExceeded(count.status())) {
        return testing::AssertionFailure() << "it stays open";
      }
      if (!count.ok() || *count == 0) return testing::AssertionSuccess();
    }
  }
  // Writes as long as the server takes it.
  static void Pour(Wire& wire, std::string_view piece, size_t times) {
    for (size_t i = 0; i < times; ++i) {
      if (!wire.Write(piece, "").ok()) return;
    }
  }
  // A connection that speaks SPDY or WebSocket by now, and sends `bytes`.
  void ExpectClosedAfter(Transport transport, std::string_view bytes) const {
    ASSERT_OK_AND_ASSIGN(auto session, OpenExec("cat", Streams(transport, "io")));
    session->wire().Write(bytes, "").IgnoreError();
    EXPECT_TRUE(Closes(session->wire(), absl::Seconds(5))) << testing::PrintToString(bytes);
  }

  StreamServerState idle_;
  std::unique_ptr<CommandSession> witness_;
};

TEST_F(StreamsHostileTest, BadFramesOfSpdyCloseTheConnection) {
  using std::string_view_literals::operator""sv;
  for (const std::string_view bytes :
       {"\x80\x02\x00\x01\x00\x00\x00\x0a\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00"sv,  // Version.
        "\x80\x03\x00\x03\x00\x00\x00\x02\x00\x00"sv,              // A short RST_STREAM.
        "\x80\x03\x00\x06\x00\x00\x00\x05\x00\x00\x00\x01\x00"sv,  // A long PING.
        // A header block that is no zlib stream.
        "\x80\x03\x00\x01\x00\x00\x00\x12\x00\x00\x00\x0b\x00\x00\x00\x00\x00\x00garbage!"sv}) {
    ExpectClosedAfter(Transport::kSpdy, bytes);
  }
  TestBytes noise(11);
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_AND_ASSIGN(auto session, OpenExec("cat", Streams(Transport::kSpdy, "io")));
    session->wire().Write(noise.Next(64 << 10), "").IgnoreError();
    session->wire().Reset();
  }
  ExpectUnharmed();
}

TEST_F(StreamsHostileTest, BadFramesOfWebSocketCloseTheConnection) {
  using std::string_view_literals::operator""sv;
  for (const std::string_view bytes :
       {"\x82\x02\x00x"sv,                     // Unmasked.
        "\xf2\x82\x00\x00\x00\x00\x00x"sv,     // Reserved bits.
        "\x80\x82\x00\x00\x00\x00\x00x"sv,     // A continuation of nothing.
        "\x89\xfe\x00\x80\x00\x00\x00\x00"sv,  // A long ping.
        "\x09\x80\x00\x00\x00\x00"sv,          // A ping in pieces.
        "\x8b\x80\x00\x00\x00\x00"sv}) {       // An unknown opcode.
    ExpectClosedAfter(Transport::kWebSocket, bytes);
  }
  ExpectUnharmed();
}

TEST_F(StreamsHostileTest, AHeaderBombIsNotUnpacked) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ForwardUrl());
  ASSERT_OK_AND_ASSIGN(auto session, ForwardSession::Open(url, ForwardTransport::kSpdy));
  // A hundred thousand to one.
  ASSERT_OK(session->spdy().OpenStream({{"streamtype", std::string(12 << 20, 'x')}}));
  EXPECT_TRUE(Closes(session->spdy().wire()));
  // The same in an HTTP request.
  ASSERT_OK_AND_ASSIGN(const std::string other, ForwardUrl());
  ASSERT_OK_AND_ASSIGN(auto wire, ConnectWire(other));
  ASSERT_OK(wire->Write("GET / HTTP/1.1\r\nX: ", ""));
  Pour(*wire, std::string(64 << 10, 'x'), 256);
  EXPECT_TRUE(Closes(*wire));
  ExpectUnharmed();
}

TEST_F(StreamsHostileTest, AFloodOfStreamsMeetsItsLimit) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ForwardUrl());
  ASSERT_OK_AND_ASSIGN(auto session, ForwardSession::Open(url, ForwardTransport::kSpdy));
  size_t opened = 0;
  for (; opened < 20000; ++opened) {
    const SpdyHeaders headers = {
        {"streamtype", "error"}, {"port", "1"}, {"requestid", base::StrCat(opened)}};
    if (!session->spdy().OpenStream(headers).ok()) break;
  }
  size_t refused = 0;
  while (true) {
    const auto event = session->spdy().Next(kPatience);
    if (!event.ok()) {
      EXPECT_FALSE(absl::IsDeadlineExceeded(event.status())) << "pairs never complete";
      break;
    }
    if (event->kind == SpdyEvent::Kind::kReset) ++refused;
    if (event->kind == SpdyEvent::Kind::kEnd || refused == 20000) break;
  }
  EXPECT_TRUE(refused > 18000 || opened < 20000) << refused << " of " << opened;
  session.reset();
  ExpectUnharmed();
}

TEST_F(StreamsHostileTest, AFloodOfPingsWithoutReadingCostsNothing) {
  for (const Transport transport : {Transport::kSpdy, Transport::kWebSocket}) {
    ASSERT_OK_AND_ASSIGN(auto session, OpenExec("cat", Streams(transport, "io")));
    using std::string_view_literals::operator""sv;
    std::string pings;
    while (pings.size() < (256u << 10)) {
      pings += transport == Transport::kSpdy ? "\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"sv
                                             : "\x89\x84\x00\x00\x00\x00ping"sv;
    }
    // More than the sockets hold: whoever answers into memory is seen there.
    std::atomic<bool> done = false;
    std::thread writer([&] {
      Pour(session->wire(), pings, 48);
      done = true;
    });
    Eventually([&] { return done.load(); }, absl::Seconds(2));
    EXPECT_TRUE(ServerHasAtMost(kMostKib));
    // The writer may be held up for ever: reading frees it.
    while (!done) {
      char buffer[65536];
      const auto count = session->wire().Read(buffer, sizeof(buffer), absl::Milliseconds(100));
      if (count.ok() && *count == 0) break;
      if (!count.ok() && !absl::IsDeadlineExceeded(count.status())) break;
    }
    writer.join();
  }
  ExpectUnharmed();
}

TEST_F(StreamsHostileTest, WhoIsTooSlowIsSentAway) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl({"true"}, Streams(Transport::kSpdy, "oe")));
  // Says nothing; says a part of a request.
  ASSERT_OK_AND_ASSIGN(const auto silent, ConnectWire(url));
  ASSERT_OK_AND_ASSIGN(const auto halting, ConnectWire(url));
  ASSERT_OK(halting->Write("POST /exec/", ""));
  EXPECT_TRUE(Closes(*silent));
  EXPECT_TRUE(Closes(*halting));
  // Upgrades and opens no stream.
  ASSERT_OK_AND_ASSIGN(HttpAnswer answer,
                       SendUpgrade(url, "POST",
                                   {{"Connection", "Upgrade"},
                                    {"Upgrade", "SPDY/3.1"},
                                    {"X-Stream-Protocol-Version", "v4.channel.k8s.io"}}));
  ASSERT_EQ(answer.code, 101);
  EXPECT_TRUE(Closes(*answer.wire));
  ExpectUnharmed();
}

TEST_F(StreamsHostileTest, RequestsThatAreNoneGetAnAnswerThatSaysSo) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl({"true"}, Streams(Transport::kSpdy, "oe")));
  ASSERT_OK_AND_ASSIGN(const HttpAnswer plain, SendUpgrade(url, "GET", {}));
  EXPECT_EQ(plain.code, 400) << plain.body;
  const std::string wrong = url.substr(0, url.rfind('/')) + "/AAAAAAAAAAAAAAAAAAAAAA";
  ASSERT_OK_AND_ASSIGN(const HttpAnswer unknown,
                       SendUpgrade(wrong, "POST",
                                   {{"Connection", "Upgrade"},
                                    {"Upgrade", "SPDY/3.1"},
                                    {"X-Stream-Protocol-Version", "v4.channel.k8s.io"}}));
  EXPECT_EQ(unknown.code, 404) << unknown.body;
  ASSERT_OK_AND_ASSIGN(const auto wire, ConnectWire(url));
  ASSERT_OK(wire->Write("\x16\x03\x01 this is not HTTP\r\n\r\n", ""));
  EXPECT_TRUE(Closes(*wire));
  ExpectUnharmed();
}

}  // namespace
}  // namespace test
