#include "runtimeservice/streaming/websocket_forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "runtimeservice/streaming/test_door.h"
#include "runtimeservice/streaming/test_websocket.h"
#include "runtimeservice/streaming/websocket_tunnel.h"

namespace streaming {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Frame = WebSocketTestClient::Frame;

const std::string kCloseOk("\x03\xe8", 2);

class WebSocketForwardTest : public ::testing::Test {
 protected:
  void Ports(const std::vector<uint32_t>& ports) {
    stream::PortForwardSession& session =
        *door_.sessions["portforward/good"].mutable_port_forward();
    session.mutable_ports()->Assign(ports.begin(), ports.end());
  }
  void Open(std::string_view protocol) {
    door_.Start();
    client_.emplace(door_.port());
    head_ = client_->Upgrade("/portforward/good", protocol);
  }
  TestDoor door_;
  std::optional<WebSocketTestClient> client_;
  std::string head_;
};

TEST_F(WebSocketForwardTest, TheVectorsOfChannelPairsAreSpoken) {
  Open("v4.channel.k8s.io");
  EXPECT_EQ(client_->Receive(5), FromHex("820300901f"));
  EXPECT_EQ(client_->Receive(5), FromHex("820301901f"));
  client_->Send(Binary(std::string_view("\0hello", 6)));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82, std::string("\0hello", 6)}));
}

TEST_F(WebSocketForwardTest, EachPortHasItsChannelsAndAFailureIsTextOnItsErrorChannel) {
  Ports({80, 1, 443});
  Open("");
  for (const std::string_view first :
       {std::string_view("\0\x50\0", 3), std::string_view("\1\x50\0", 3),
        std::string_view("\2\1\0", 3), std::string_view("\3\1\0", 3),
        std::string_view("\4\xbb\1", 3), std::string_view("\5\xbb\1", 3)}) {
    EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82, std::string(first)}));
  }
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82, "\3connection refused"}));
  client_->Send(Binary("\4to 443"));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82, "\4to 443"}));
  // Of an ended connection, of an error channel, of none: dropped.
  client_->Send(Binary("\2x") + Binary("\5x") + Binary("\6x") + Binary(std::string(1, '\0')));
  client_->Send(Binary(std::string_view("\0to 80", 6)));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82, std::string("\0to 80", 6)}));
  client_.reset();
  door_.Stop();
  EXPECT_TRUE(absl::IsCancelled(door_.forward_end)) << door_.forward_end;
}

TEST_F(WebSocketForwardTest, AClientThatLeavesWhileATargetTakesNothingIsNoticed) {
  door_.door().limits.pong = absl::Milliseconds(10);
  Ports({2});
  Open("v4.channel.k8s.io");
  client_->ReceiveFrame();
  client_->ReceiveFrame();
  client_->Send(Binary(std::string(1 << 20, '\0')));
  client_.reset();
  door_.Stop();
  EXPECT_TRUE(absl::IsCancelled(door_.forward_end)) << door_.forward_end;
}

TEST_F(WebSocketForwardTest, Base64HasDigitsForChannels) {
  Open("v4.base64.channel.k8s.io");
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x81, "0kB8="}));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x81, "1kB8="}));
  client_->Send(MaskedFrame(0x81, "0Zm9v"));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x81, "0Zm9v"}));
}

TEST_F(WebSocketForwardTest, WhenAllConnectionsHaveEndedTheServerSaysGoodbye) {
  Ports({1, 1});
  Open("v4.channel.k8s.io");
  Frame frame = client_->ReceiveFrame();
  while (frame.first == 0x82) {
    frame = client_->ReceiveFrame();
  }
  EXPECT_EQ(frame, (Frame{0x88, kCloseOk}));
  client_->Send(MaskedFrame(0x88, kCloseOk));
  client_.reset();
  door_.Stop();
  EXPECT_TRUE(door_.forward_end.ok()) << door_.forward_end;
}

TEST_F(WebSocketForwardTest, WithoutPortsOrWithTooManyTheRequestIsRefused) {
  for (const auto& [count, protocol] : std::vector<std::pair<int, std::string>>{
           {0, "v4.channel.k8s.io"}, {129, "v4.channel.k8s.io"}, {6, "v4.base64.channel.k8s.io"}}) {
    TestDoor door;
    stream::PortForwardSession& session = *door.sessions["portforward/good"].mutable_port_forward();
    session.clear_ports();
    for (int i = 0; i < count; ++i) {
      session.add_ports(80);
    }
    door.Start();
    WebSocketTestClient client(door.port());
    EXPECT_THAT(client.Upgrade("/portforward/good", protocol), StartsWith("HTTP/1.1 400 "));
    EXPECT_THAT(client.ReceiveAll(), HasSubstr("names its ports: 1 to "));
  }
}

TEST_F(WebSocketForwardTest, AClientThatSendsWithoutReadingIsSlowedDown) {
  Open("v4.channel.k8s.io");
  const std::string message = Binary(std::string(64 << 10, '\0'));
  // The echo cannot be written, so at some point nothing is read either.
  size_t sent = 0;
  while (sent < (64 << 20)) {
    const ssize_t taken = send(client_->fd(), message.data() + sent % message.size(),
                               message.size() - sent % message.size(), MSG_DONTWAIT);
    if (taken > 0) {
      sent += static_cast<size_t>(taken);
      continue;
    }
    pollfd writable = {.fd = client_->fd(), .events = POLLOUT, .revents = 0};
    if (poll(&writable, 1, 300) == 0) {
      break;
    }
  }
  EXPECT_LT(sent, 64 << 20);
}

// Stands for SPDY within the tunnel: echoes the bytes, says goodbye at their end.
class RawForwardClient : public ForwardClient {
 public:
  explicit RawForwardClient(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)) {}
  Task<absl::Status> Serve(OnConnection) override {
    std::array<char, 7> buffer;
    while (true) {
      const absl::StatusOr<size_t> size = co_await stream_->Read(buffer);
      if (!size.ok()) {
        co_return size.status();
      }
      if (*size == 0 || buffer[0] == 'q') {
        co_await stream_->FinishWriting();
        co_return absl::OkStatus();
      }
      const std::array<std::string_view, 2> pieces = {"", std::string_view(buffer.data(), *size)};
      const absl::Status written = co_await stream_->Write(pieces);
      if (!written.ok()) {
        co_return written;
      }
    }
  }
  void Abort() override { stream_->Close(); }

 private:
  std::unique_ptr<ByteStream> stream_;
};

class WebSocketTunnelTest : public WebSocketForwardTest {
 protected:
  WebSocketTunnelTest() {
    door_.door().spdy_forward = [](std::unique_ptr<ByteStream> stream) {
      return std::make_unique<RawForwardClient>(std::move(stream));
    };
  }
  std::string ReceiveBytes(size_t size) {
    std::string bytes;
    while (bytes.size() < size) {
      const Frame frame = client_->ReceiveFrame();
      if (frame.first != 0x82) {
        break;
      }
      bytes += frame.payload;
    }
    return bytes;
  }
};

TEST_F(WebSocketTunnelTest, TheBytesOfMessagesAreOneStreamWhereverTheyAreCut) {
  Open("SPDY/3.1+portforward.k8s.io");
  EXPECT_THAT(head_, HasSubstr("\r\nSec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n"));
  // The vector: one whole SYN_STREAM.
  client_->Send(
      FromHex("82c537fa213db7f9213c37fa210037fa213c37fa213d37fa59c4d43c86ff35df1b4d0dd108777a36a42b"
              "1256889db7"
              "7c35f6721a3d5d569a403d93c3aa1de6622877e976273d37fa21c2c8"));
  EXPECT_THAT(ReceiveBytes(69), StartsWith(FromHex("80030001")));
  const std::string bytes = "0123456789abcdef";
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    client_->Send(Binary(bytes.substr(0, cut)) + Binary(bytes.substr(cut)));
    EXPECT_EQ(ReceiveBytes(bytes.size()), bytes);
  }
}

TEST_F(WebSocketTunnelTest, ACloseIsTheEndOfTheStream) {
  Open("SPDY/3.1+portforward.k8s.io");
  client_->Send(MaskedFrame(0x88, kCloseOk));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x88, kCloseOk}));
  client_.reset();
  door_.Stop();
  EXPECT_TRUE(door_.forward_end.ok()) << door_.forward_end;
}

TEST_F(WebSocketTunnelTest, TheEndOfOurStreamIsAClose) {
  Open("SPDY/3.1+portforward.k8s.io");
  client_->Send(Binary("q"));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x88, kCloseOk}));
  client_->Send(MaskedFrame(0x88, kCloseOk));
  EXPECT_EQ(client_->ReceiveFrame(), Frame{});
}

TEST_F(WebSocketTunnelTest, TextIsUnsupported) {
  Open("SPDY/3.1+portforward.k8s.io");
  client_->Send(MaskedFrame(0x81, "text"));
  EXPECT_THAT(client_->ReceiveFrame().payload, StartsWith("\x03\xeb"));
}

}  // namespace
}  // namespace streaming
