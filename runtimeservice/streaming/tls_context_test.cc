#include "runtimeservice/streaming/tls_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <optional>
#include <thread>

#include "runtimeservice/streaming/socket_stream.h"
#include "runtimeservice/streaming/test_certificates.h"
#include "runtimeservice/streaming/test_raw_client.h"
#include "runtimeservice/streaming/test_websocket.h"

namespace streaming {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class TlsContextTest : public ::testing::Test {
 protected:
  TlsContextTest() : authority_(MakeIdentity("authority", nullptr)) {
    char name[] = "/tmp/crisp-tls-XXXXXX";
    folder_ = mkdtemp(name);
    settings_.set_tls_certificate(folder_ + "/server.crt");
    settings_.set_tls_key(folder_ + "/server.key");
    WriteServer("first");
  }
  ~TlsContextTest() override {
    door_.reset();
    EXPECT_TRUE(base::RemoveTree(folder_).ok());
  }
  void WriteServer(const std::string& name) {
    WriteIdentity(MakeIdentity(name, &authority_), settings_.tls_certificate(),
                  settings_.tls_key());
  }
  void WantClientCertificates() {
    settings_.set_tls_client_ca(folder_ + "/ca.crt");
    WriteIdentity(authority_, settings_.tls_client_ca(), "");
  }
  void Start(Limits limits = {}) {
    absl::StatusOr<std::unique_ptr<TlsContext>> made = TlsContext::Make(settings_);
    ASSERT_TRUE(made.ok()) << made.status();
    tls_ = *std::move(made);
    door_.emplace(limits, tls_.get());
    UseRawClients(door_->door());
    door_->Start();
  }
  // Whether a client gets through to HTTP; its handshake alone may end before it is refused.
  bool Serves(const TlsChoice& choice) {
    TlsTestClient client(door_->port(), choice);
    client.Send(SpdyRequest("/exec/unknown"));
    return client.connected() && client.ReceiveAll().find("HTTP/1.1 404 ") != std::string::npos;
  }
  std::string MakeError() { return TlsContext::Make(settings_).status().ToString(); }

  const Identity authority_;
  std::string folder_;
  stream::Settings settings_;
  std::unique_ptr<TlsContext> tls_;
  std::optional<TestDoor> door_;
};

TEST_F(TlsContextTest, ASessionRunsUnderTlsWithTheBytesThatCameWithTheRequest) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Start();
    TlsTestClient client(door_->port(), {.max_version = version});
    ASSERT_TRUE(client.connected());
    EXPECT_EQ(SSL_version(client.ssl()), version);
    const std::string bytes(100'000, 'b');
    client.Send(base::StrCat(SpdyRequest("/exec/good"), "early"));
    client.Send(bytes);
    SSL_shutdown(client.ssl());  // A half-close: the answer still comes.
    bool closed = false;
    const std::string answer = client.ReceiveAll(&closed);
    EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 101 "), HasSubstr("version 4\n<early")));
    EXPECT_TRUE(closed);
    door_->Stop();
    EXPECT_EQ(door_->received, base::StrCat("early", bytes));
    EXPECT_TRUE(door_->stdin_ended);
  }
}

TEST_F(TlsContextTest, AClientThatReadsSlowerThanIsWrittenGetsAllBytes) {
  Start();
  std::string output;
  while (output.size() < (16 << 20)) {
    output += base::StrCat(output.size(), " ");
  }
  door_->errors = {output};
  TlsTestClient client(door_->port(), {});
  client.Send(SpdyRequest("/exec/good"));
  SSL_shutdown(client.ssl());
  const std::string answer = client.ReceiveAll();
  const size_t begin = answer.find('<');
  ASSERT_NE(begin, std::string::npos);
  EXPECT_TRUE(answer.substr(begin + 1) == output);
}

TEST_F(TlsContextTest, WebSocketIsSpokenUnderTls) {
  Start();
  TlsTestClient client(door_->port(), {});
  client.Send(WebSocketTestClient::UpgradeRequest("/exec/good", "v5.channel.k8s.io") +
              Binary(std::string("\0in", 3)) + Binary(std::string("\xff\0", 2)));
  client.Send(MaskedFrame(0x88, "\x03\xe8"));
  bool closed = false;
  EXPECT_THAT(client.ReceiveAll(&closed),
              AllOf(StartsWith("HTTP/1.1 101 "), HasSubstr("\x82\x01\x01\x82\x03\x01in")));
  EXPECT_TRUE(closed);
}

TEST_F(TlsContextTest, AConnectionCutShortIsNoOrderlyEnd) {
  Start();
  {
    TlsTestClient client(door_->port(), {});
    client.Send(SpdyRequest("/exec/good"));
    client.socket().FinishWriting();
    client.ReceiveAll();
  }
  door_->Stop();
  EXPECT_TRUE(absl::IsCancelled(door_->read_end)) << door_->read_end;
  EXPECT_FALSE(door_->stdin_ended);
}

TEST_F(TlsContextTest, WithAClientAuthorityOnlyItsCertificatesServe) {
  WantClientCertificates();
  Start();
  const Identity own = MakeIdentity("client", &authority_);
  const Identity other_authority = MakeIdentity("authority", nullptr);
  const Identity foreign = MakeIdentity("client", &other_authority);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_TRUE(Serves({.certificate = &own, .max_version = version}));
    EXPECT_FALSE(Serves({.max_version = version}));
    EXPECT_FALSE(Serves({.certificate = &foreign, .max_version = version}));
  }
}

TEST_F(TlsContextTest, VersionsBelowTheMinimumAreRefused) {
  Start();
  EXPECT_FALSE(Serves({.max_version = TLS1_1_VERSION}));
  EXPECT_TRUE(Serves({.max_version = TLS1_2_VERSION}));
  settings_.set_tls_min_version("VersionTLS13");
  Start();
  EXPECT_FALSE(Serves({.max_version = TLS1_2_VERSION}));
  EXPECT_TRUE(Serves({}));
}

TEST_F(TlsContextTest, CipherSuitesAreThoseOfTheSettings) {
  settings_.add_tls_cipher_suites("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
  Start();
  EXPECT_TRUE(Serves({.max_version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384"}));
  EXPECT_FALSE(Serves({.max_version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256"}));
}

TEST_F(TlsContextTest, NewFilesAreServedToNewConnectionsAndBrokenOnesAreNot) {
  Start();
  EXPECT_EQ(TlsTestClient(door_->port(), {}).ServerName(), "first");
  WriteServer("second");
  EXPECT_EQ(TlsTestClient(door_->port(), {}).ServerName(), "second");
  // Half of a change: the key is another one's.
  const Identity third = MakeIdentity("third", &authority_);
  WriteIdentity(third, settings_.tls_certificate(), "");
  EXPECT_EQ(TlsTestClient(door_->port(), {}).ServerName(), "second");
  WriteIdentity(third, settings_.tls_certificate(), settings_.tls_key());
  EXPECT_EQ(TlsTestClient(door_->port(), {}).ServerName(), "third");
  ASSERT_TRUE(base::RemoveFile(settings_.tls_certificate()).ok());
  EXPECT_EQ(TlsTestClient(door_->port(), {}).ServerName(), "third");
}

TEST_F(TlsContextTest, ABrokenFileIsLoggedOnce) {
  absl::StatusOr<std::unique_ptr<TlsContext>> made = TlsContext::Make(settings_);
  ASSERT_TRUE(made.ok());
  ASSERT_TRUE(base::ReplaceFile(settings_.tls_key(), "x", 0600, base::Durability::kVolatile).ok());
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE((*made)->Current(), nullptr);
  }
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr(settings_.tls_key()));
  EXPECT_EQ(log.find("goes on"), log.rfind("goes on"));
}

TEST_F(TlsContextTest, AHandshakeThatDoesNotEndIsClosedInTime) {
  Start({.creation = absl::Milliseconds(50)});
  TestClient client(door_->port());
  client.Send(std::string_view("\x16\x03\x01", 3));
  EXPECT_EQ(client.ReceiveAll(), "");
}

TEST_F(TlsContextTest, AHeaderThatDoesNotEndIsClosedInTime) {
  Start({.creation = absl::Milliseconds(200)});
  TlsTestClient client(door_->port(), {});
  client.Send("GET /exec/good HTTP/1.1\r\n");
  bool closed = false;
  EXPECT_THAT(client.ReceiveAll(&closed), StartsWith("HTTP/1.1 408 "));
  EXPECT_TRUE(closed);
}

TEST_F(TlsContextTest, AFloodOfKeyUpdatesLeavesOthersTheirTurns) {
  constexpr int kUpdates = 1000;
  absl::StatusOr<std::unique_ptr<TlsContext>> tls = TlsContext::Make(settings_);
  ASSERT_TRUE(tls.ok()) << tls.status();
  asio::io_context loop;
  asio::ip::tcp::acceptor acceptor(loop, {asio::ip::make_address("127.0.0.1"), 0});
  std::thread client([port = acceptor.local_endpoint().port()] {
    TlsTestClient flooding(port, {});
    for (int i = 0; i < kUpdates; ++i) {
      SSL_key_update(flooding.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
      SSL_do_handshake(flooding.ssl());
    }
    flooding.Send("x");
  });
  const std::unique_ptr<SocketStream> stream = MakeTlsStream(acceptor.accept(), (*tls)->Current());
  const auto shake = [&]() -> Task<> { EXPECT_TRUE((co_await stream->Handshake()).ok()); };
  Spawn(loop, shake());
  loop.run();
  client.join();  // All of it is there.
  std::array<char, 16> buffer;
  const auto read = [&]() -> Task<> { EXPECT_EQ((co_await stream->Read(buffer)).value_or(0), 1u); };
  Spawn(loop, read());
  loop.restart();
  EXPECT_GE(loop.run(), size_t{kUpdates});
}

TEST_F(TlsContextTest, PlainHttpIsNoHandshake) {
  Start();
  TestClient client(door_->port());
  client.Send(SpdyRequest("/exec/good"));
  EXPECT_EQ(client.ReceiveAll().find("HTTP/1.1"), std::string::npos);
}

TEST_F(TlsContextTest, TheErrorNamesSettingAndFile) {
  const auto with = [this](auto change) {
    const stream::Settings before = settings_;
    change(settings_);
    const std::string error = MakeError();
    settings_ = before;
    return error;
  };
  EXPECT_THAT(with([](auto& s) { s.set_tls_certificate("/none.crt"); }),
              HasSubstr("stream_tls_cert: open /none.crt: No such file"));
  EXPECT_THAT(with([](auto& s) { s.set_tls_key("/none.key"); }),
              HasSubstr("stream_tls_key: open /none.key: No such file"));
  EXPECT_THAT(with([](auto& s) { s.set_tls_client_ca("/none.ca"); }),
              HasSubstr("stream_tls_ca: open /none.ca: No such file"));
  EXPECT_THAT(with([](auto& s) { s.set_tls_certificate("/dev/null"); }),
              HasSubstr("stream_tls_cert /dev/null: "));
  EXPECT_THAT(with([](auto& s) { s.set_tls_min_version("VersionTLS11"); }),
              HasSubstr("tls_min_version VersionTLS11: "));
  EXPECT_THAT(with([](auto& s) { s.add_tls_cipher_suites("TLS_FOO"); }),
              HasSubstr("tls_cipher_suites TLS_FOO: "));
  WriteIdentity(MakeIdentity("other", &authority_), settings_.tls_certificate(), "");
  EXPECT_THAT(MakeError(), HasSubstr(settings_.tls_key()));
}

}  // namespace
}  // namespace streaming
