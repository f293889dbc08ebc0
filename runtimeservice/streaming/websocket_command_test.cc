#include "runtimeservice/streaming/websocket_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtimeservice/streaming/test_door.h"
#include "runtimeservice/streaming/test_websocket.h"

namespace streaming {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Frame = WebSocketTestClient::Frame;

constexpr char kCloseStdin[] = "\xff\x00";
const std::string kCloseOk("\x03\xe8", 2);

std::string OnChannel(char channel, std::string_view bytes) {
  return base::StrCat(std::string(1, channel), bytes);
}

class WebSocketCommandTest : public ::testing::Test {
 protected:
  WebSocketCommandTest() {
    door_.sessions["exec/tty"].mutable_exec()->set_tty(true);
    door_.sessions["exec/tty"].mutable_exec()->set_stdin(true);
    door_.sessions["exec/tty"].mutable_exec()->set_stdout(true);
    door_.Start();
    client_.emplace(door_.port());
  }
  TestDoor door_;
  std::optional<WebSocketTestClient> client_;
};

TEST_F(WebSocketCommandTest, TheVectorsOfV5AreSpoken) {
  EXPECT_THAT(client_->Upgrade("/exec/tty", "v5.channel.k8s.io"),
              ::testing::AllOf(StartsWith("HTTP/1.1 101 "),
                               HasSubstr("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
                               HasSubstr("Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n")));
  EXPECT_EQ(client_->Receive(3), FromHex("820101"));
  client_->Send(FromHex("828437fa213d37965237"));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82, OnChannel(1, "ls\n")}));
  client_->Send(FromHex("829a37fa213d3381036a5e9e555515c0190d1bd869585e9d494915c013094af0"));
  client_->Send(FromHex("898037fa213d"));
  EXPECT_EQ(client_->Receive(2), FromHex("8a00"));
  client_->Send(FromHex("828237fa213dc8fa"));
  EXPECT_EQ(client_->Receive(23), FromHex("8215037b22737461747573223a2253756363657373227d"));
  EXPECT_EQ(client_->Receive(4), FromHex("880203e8"));
  client_->Send(MaskedFrame(0x88, kCloseOk));
  EXPECT_EQ(client_->ReceiveFrame(), Frame{});
  door_.Stop();
  EXPECT_EQ(door_.received, "ls\n");
  EXPECT_THAT(door_.sizes, ElementsAre("80x24"));
  EXPECT_TRUE(door_.stdin_ended);
  EXPECT_TRUE(door_.read_end.ok()) << door_.read_end;
}

}  // namespace
}  // namespace streaming
