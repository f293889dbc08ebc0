#include "runtimeservice/streaming/websocket_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "runtimeservice/streaming/test_door.h"
#include "runtimeservice/streaming/test_websocket.h"

namespace streaming {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Frame = WebSocketTestClient::Frame;

const std::string kCloseStdin("\xff\x00", 2);
const std::string kCloseOk("\x03\xe8", 2);

std::string OnChannel(char channel, std::string_view bytes) {
  return base::StrCat(std::string(1, channel), bytes);
}

class WebSocketCommandTest : public ::testing::Test {
 protected:
  void ExpectBase64Echo(const std::string& all) {
    std::string echoed;
    while (echoed.size() < all.size()) {
      const Frame frame = client_->ReceiveFrame();
      ASSERT_EQ(frame.first, 0x81);
      std::string bytes;
      ASSERT_TRUE(absl::Base64Unescape(frame.payload.substr(1), &bytes));
      echoed += bytes;
    }
    EXPECT_EQ(echoed, all);
  }
  WebSocketCommandTest() {
    stream::ExecSession& tty = *door_.sessions["exec/tty"].mutable_exec();
    tty.set_tty(true);
    tty.set_stdin(true);
    tty.set_stdout(true);
    door_.sessions["exec/stderr"].mutable_exec()->set_stderr(true);
    door_.sessions["exec/stdin"].mutable_exec()->set_stdin(true);
  }
  // Opens the session with `protocol` and takes the first message, which has no data.
  Frame Open(std::string_view protocol, std::string_view target = "/exec/good") {
    door_.Start();
    client_.emplace(door_.port());
    head_ = client_->Upgrade(target, protocol);
    return client_->ReceiveFrame();
  }
  // The end as the client sees it, after its last message.
  void ExpectGoodbye() {
    EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x88, kCloseOk}));
    client_->Send(MaskedFrame(0x88, kCloseOk));
    EXPECT_EQ(client_->ReceiveFrame(), Frame{});
    client_.reset();
    door_.Stop();
  }
  // What the client gets until the close, whose code is returned.
  int CloseCode() {
    Frame frame = client_->ReceiveFrame();
    while (frame.first != 0x88 && frame.first != 0) {
      frame = client_->ReceiveFrame();
    }
    client_->Send(MaskedFrame(0x88, frame.payload));
    client_.reset();
    door_.Stop();
    return frame.payload.size() < 2 ? 0
                                    : static_cast<uint8_t>(frame.payload[0]) << 8 |
                                          static_cast<uint8_t>(frame.payload[1]);
  }

  TestDoor door_;
  std::optional<WebSocketTestClient> client_;
  std::string head_;
};

TEST_F(WebSocketCommandTest, TheVectorsOfV5AreSpoken) {
  EXPECT_EQ(Open("v5.channel.k8s.io", "/exec/tty"), (Frame{0x82, FromHex("01")}));
  EXPECT_THAT(head_, AllOf(StartsWith("HTTP/1.1 101 "),
                           HasSubstr("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
                           HasSubstr("Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n"),
                           Not(HasSubstr("Extensions"))));
  client_->Send(FromHex("828437fa213d37965237"));
  EXPECT_EQ(client_->Receive(6), FromHex("8204016c730a"));
  client_->Send(FromHex("829a37fa213d3381036a5e9e555515c0190d1bd869585e9d494915c013094af0"));
  client_->Send(FromHex("898037fa213d"));
  EXPECT_EQ(client_->Receive(2), FromHex("8a00"));
  client_->Send(FromHex("828237fa213dc8fa"));
  EXPECT_EQ(client_->Receive(23), FromHex("8215037b22737461747573223a2253756363657373227d"));
  ExpectGoodbye();
  EXPECT_EQ(door_.received, "ls\n");
  EXPECT_THAT(door_.sizes, ElementsAre("80x24"));
  EXPECT_TRUE(door_.stdin_ended);
  EXPECT_TRUE(door_.read_end.ok()) << door_.read_end;
}

TEST_F(WebSocketCommandTest, TheVectorsOfBase64AreSpoken) {
  EXPECT_EQ(Open("v4.base64.channel.k8s.io"), (Frame{0x81, "1"}));
  client_->Send(FromHex("818937fa213d07a04c0441b946000a"));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x81, "1Zm9vCg=="}));
  client_.reset();
  door_.Stop();
  EXPECT_EQ(door_.received, "foo\n");
  EXPECT_TRUE(absl::IsCancelled(door_.read_end)) << door_.read_end;
}

TEST_F(WebSocketCommandTest, TheProtocolIsChosenByTheClientsOrder) {
  Open("v6.channel.k8s.io, channel.k8s.io, v5.channel.k8s.io");
  EXPECT_THAT(head_, HasSubstr("\r\nSec-WebSocket-Protocol: channel.k8s.io\r\n"));
}

TEST_F(WebSocketCommandTest, WithoutASubProtocolNoneIsNamed) {
  EXPECT_EQ(Open(""), (Frame{0x82, "\x01"}));
  EXPECT_THAT(head_, AllOf(StartsWith("HTTP/1.1 101 "), Not(HasSubstr("Sec-WebSocket-Protocol"))));
}

TEST_F(WebSocketCommandTest, TheFirstMessageIsOnTheLowestOpenChannel) {
  EXPECT_EQ(Open("v5.channel.k8s.io", "/exec/stderr"), (Frame{0x82, "\x02"}));
}

TEST_F(WebSocketCommandTest, WithoutOutputTheFirstMessageIsOnTheErrorChannel) {
  EXPECT_EQ(Open("v5.channel.k8s.io", "/exec/stdin"), (Frame{0x82, "\x03"}));
  // Standard output is not wanted: the echo is swallowed.
  client_->Send(Binary(OnChannel(0, "x")));
  client_->Send(Binary(kCloseStdin));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82, "\x03{\"status\":\"Success\"}"}));
  ExpectGoodbye();
}

TEST_F(WebSocketCommandTest, OutputsAndExitCodeHaveChannelsOfTheirOwn) {
  door_.result.exit_code = 3;
  door_.errors = {"err\n"};
  Open("v5.channel.k8s.io");
  client_->Send(Binary(kCloseStdin));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82,
                                            "\x02"
                                            "err\n"}));
  EXPECT_EQ(client_->ReceiveFrame(),
            (Frame{0x82, base::StrCat("\x03", StatusDocument({.exit_code = 3}))}));
  ExpectGoodbye();
}

// Without half-close only an exec without stdin ends by itself here.
TEST_F(WebSocketCommandTest, OldProtocolsSayTheirStatusInPlainTextOrNotAtAll) {
  for (const std::string_view protocol : {"channel.k8s.io", "base64.channel.k8s.io", ""}) {
    for (const int code : {0, 3}) {
      TestDoor door;
      door.sessions["exec/quiet"].mutable_exec()->set_stdout(true);
      door.result.exit_code = code;
      door.Start();
      WebSocketTestClient client(door.port());
      client.Upgrade("/exec/quiet", protocol);
      const bool text = protocol.starts_with("base64");
      EXPECT_EQ(client.ReceiveFrame().payload, text ? "1" : "\x01");
      if (code != 0) {
        EXPECT_EQ(client.ReceiveFrame().payload,
                  text ? "3Y29tbWFuZCB0ZXJtaW5hdGVkIHdpdGggZXhpdCBjb2RlIDM="
                       : "\x03"
                         "command terminated with exit code 3");
      }
      EXPECT_EQ(client.ReceiveFrame(), (Frame{0x88, kCloseOk}));
    }
  }
}

TEST_F(WebSocketCommandTest, V4SaysItsStatusAsADocumentAndHasNoClose) {
  door_.result.exit_code = 1;
  Open("v4.channel.k8s.io");
  client_->Send(Binary(kCloseStdin));
  client_->Send(Binary(OnChannel(0, "still open")));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82, "\x01still open"}));
  client_.reset();
  door_.Stop();
  EXPECT_FALSE(door_.stdin_ended);
}

TEST_F(WebSocketCommandTest, WhatComesAfterTheCloseOfStdinOrOnUnknownChannelsIsDropped) {
  door_.result.status = absl::UnknownError("no");
  Open("v5.channel.k8s.io");
  client_->Send(Binary(""));
  client_->Send(Binary(OnChannel(9, "x")));
  client_->Send(Binary(OnChannel(4, "no terminal, no size")));
  client_->Send(Binary(OnChannel('\xff', "\x01")));
  client_->Send(Binary(kCloseStdin) + Binary(OnChannel(0, "late")));
  EXPECT_EQ(client_->ReceiveFrame(),
            (Frame{0x82, base::StrCat("\x03", StatusDocument(door_.result))}));
  ExpectGoodbye();
  EXPECT_EQ(door_.received, "");
}

TEST_F(WebSocketCommandTest, MessagesMayBeFragmentedAnywhereWithPingsBetween) {
  const std::string message = OnChannel(0, "0123456789");
  Open("v5.channel.k8s.io");
  for (size_t cut = 0; cut <= message.size(); ++cut) {
    client_->Send(MaskedFrame(0x02, message.substr(0, cut)));
    client_->Send(MaskedFrame(0x89, "are you there"));
    client_->Send(MaskedFrame(0x80, message.substr(cut)));
    std::string echoed;
    bool pong = false;
    while (echoed.size() < 10 || !pong) {
      const Frame frame = client_->ReceiveFrame();
      ASSERT_THAT(frame.first, ::testing::AnyOf(0x82, 0x8a));
      pong = pong || frame == Frame{0x8a, "are you there"};
      echoed += frame.first == 0x82 ? frame.payload.substr(1) : "";
    }
    EXPECT_EQ(echoed, "0123456789");
  }
  // The close of v5, in two frames.
  client_->Send(MaskedFrame(0x02, kCloseStdin.substr(0, 1)) +
                MaskedFrame(0x80, kCloseStdin.substr(1)));
  EXPECT_THAT(client_->ReceiveFrame().payload, HasSubstr("Success"));
  ExpectGoodbye();
}

TEST_F(WebSocketCommandTest, Base64MayBeFragmentedAnywhere) {
  const std::string message = "0Zm9vZm9vCg==";
  Open("base64.channel.k8s.io");
  for (size_t cut = 0; cut <= message.size(); ++cut) {
    client_->Send(MaskedFrame(0x01, message.substr(0, cut)) +
                  MaskedFrame(0x80, message.substr(cut)));
  }
  std::string all;
  for (size_t cut = 0; cut <= message.size(); ++cut) {
    all += "foofoo\n";
  }
  ExpectBase64Echo(all);
}

TEST_F(WebSocketCommandTest, LineEndsInBase64AreLeftOut) {
  const std::string message = "0Zm9v\nYmFy\r\nCg==\n";
  Open("base64.channel.k8s.io");
  std::string all;
  for (size_t cut = 1; cut < message.size(); ++cut) {
    client_->Send(MaskedFrame(0x01, message.substr(0, cut)) +
                  MaskedFrame(0x80, message.substr(cut)));
    all += "foobar\n";
  }
  ExpectBase64Echo(all);
}

TEST_F(WebSocketCommandTest, LengthsOf16And64BitsCarryAllBytes) {
  Open("v5.channel.k8s.io");
  std::string all;
  for (const size_t size : {124, 125, 126, 65534, 65535, 65536, 1 << 20}) {
    all += std::string(size, static_cast<char>('a' + all.size() % 7));
    client_->Send(Binary(OnChannel(0, std::string_view(all).substr(all.size() - size))));
    std::string echoed;
    while (echoed.size() < size) {
      const Frame frame = client_->ReceiveFrame();
      ASSERT_EQ(frame.first, 0x82);
      echoed += frame.payload.substr(1);
    }
  }
  client_->Send(Binary(kCloseStdin));
  client_->ReceiveFrame();
  ExpectGoodbye();
  EXPECT_EQ(door_.received, all);
}

TEST_F(WebSocketCommandTest, FramesThatCameWithTheRequestAreServed) {
  door_.Start();
  client_.emplace(door_.port());
  client_->Send(WebSocketTestClient::UpgradeRequest("/exec/good", "v5.channel.k8s.io") +
                Binary(OnChannel(0, "early")) + Binary(kCloseStdin));
  client_->ReceiveHead();
  client_->ReceiveFrame();
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x82,
                                            "\x01"
                                            "early"}));
  client_->ReceiveFrame();
  ExpectGoodbye();
}

TEST_F(WebSocketCommandTest, AnUnmaskedFrameIsAProtocolError) {
  Open("v5.channel.k8s.io");
  client_->Send(std::string_view("\x82\x02\x00x", 4));
  EXPECT_EQ(CloseCode(), 1002);
  EXPECT_TRUE(absl::IsInvalidArgument(door_.read_end)) << door_.read_end;
}

TEST_F(WebSocketCommandTest, ReservedBitsAndOpcodesAreProtocolErrors) {
  for (const uint8_t first : std::initializer_list<uint8_t>{0xc2, 0x83, 0x8b, 0x80}) {
    TestDoor door;
    door.Start();
    WebSocketTestClient client(door.port());
    client.Upgrade("/exec/good", "v5.channel.k8s.io");
    client.ReceiveFrame();
    client.Send(MaskedFrame(first, "x"));
    EXPECT_EQ(client.ReceiveFrame().payload, "\x03\xea") << int{first};
  }
}

TEST_F(WebSocketCommandTest, TextWhereBinaryIsDueIsUnsupported) {
  Open("v5.channel.k8s.io");
  client_->Send(MaskedFrame(0x81, "0abc"));
  EXPECT_EQ(CloseCode(), 1003);
  EXPECT_TRUE(absl::IsInvalidArgument(door_.read_end)) << door_.read_end;
}

TEST_F(WebSocketCommandTest, BinaryWhereTextIsDueIsUnsupported) {
  Open("base64.channel.k8s.io");
  client_->Send(Binary("0abc"));
  EXPECT_EQ(CloseCode(), 1003);
}

TEST_F(WebSocketCommandTest, WhatIsNotBase64IsBadData) {
  for (const std::string_view text : {"0Zm9", "0Zg==Zg==", "0!!!!", "0Zm 9v  ", "x"}) {
    TestDoor door;
    door.Start();
    WebSocketTestClient client(door.port());
    client.Upgrade("/exec/good", "base64.channel.k8s.io");
    client.ReceiveFrame();
    client.Send(MaskedFrame(0x81, text));
    EXPECT_THAT(client.ReceiveFrame().payload, StartsWith("\x03\xef")) << text;
  }
}

TEST_F(WebSocketCommandTest, ABrokenResizeIsBadData) {
  Open("v5.channel.k8s.io", "/exec/tty");
  client_->Send(Binary(OnChannel(4, "80x24")));
  EXPECT_EQ(CloseCode(), 1007);
  EXPECT_THAT(door_.sizes, IsEmpty());
}

TEST_F(WebSocketCommandTest, AClientThatSaysGoodbyeIsAnswered) {
  Open("v5.channel.k8s.io");
  client_->Send(MaskedFrame(0x88, kCloseOk));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x88, kCloseOk}));
  EXPECT_EQ(client_->ReceiveFrame(), Frame{});
  client_.reset();
  door_.Stop();
  EXPECT_TRUE(absl::IsCancelled(door_.read_end)) << door_.read_end;
  EXPECT_FALSE(door_.stdin_ended);
}

TEST_F(WebSocketCommandTest, AClientThatIsSlowToTakeItsOutputGetsAllOfIt) {
  door_.door().limits.farewell = absl::Milliseconds(20);
  door_.sessions["exec/other"] = door_.sessions["exec/good"];
  const std::string output(96 << 10, 'o');
  door_.errors = {output};
  Open("v5.channel.k8s.io");
  const int little = 16 << 10;
  setsockopt(client_->fd(), SOL_SOCKET, SO_RCVBUF, &little, sizeof(little));
  client_->Send(Binary(kCloseStdin));
  {
    // Takes all and does not answer; when it is cut off, the slow one's time would be over as well.
    WebSocketTestClient quick(door_.port());
    quick.Upgrade("/exec/other", "v5.channel.k8s.io");
    quick.Send(Binary(kCloseStdin));
    quick.ReceiveAll();
  }
  // To a connection that was closed this is the end of what has not come yet.
  client_->Send(MaskedFrame(0x89, ""));
  std::string received;
  Frame frame = client_->ReceiveFrame();
  while (frame.first == 0x82 || frame.first == 0x8a) {
    received += frame.payload.starts_with('\2') ? frame.payload.substr(1) : "";
    frame = client_->ReceiveFrame();
  }
  EXPECT_EQ(frame, (Frame{0x88, kCloseOk}));
  EXPECT_TRUE(received == output) << received.size();
}

TEST_F(WebSocketCommandTest, AClientThatDoesNotAnswerTheCloseIsCutOff) {
  door_.door().limits.farewell = absl::Milliseconds(20);
  Open("v5.channel.k8s.io");
  client_->Send(Binary(kCloseStdin));
  client_->ReceiveFrame();
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x88, kCloseOk}));
  EXPECT_EQ(client_->ReceiveFrame(), Frame{});
  door_.Stop();
  EXPECT_TRUE(door_.stdin_ended);
}

TEST_F(WebSocketCommandTest, AnIdleConnectionIsClosed) {
  door_.door().limits.idle = absl::Milliseconds(40);
  Open("v5.channel.k8s.io");
  EXPECT_EQ(CloseCode(), 1001);
  EXPECT_TRUE(absl::IsDeadlineExceeded(door_.read_end)) << door_.read_end;
}

TEST_F(WebSocketCommandTest, AClientWhoseInputIsNotTakenHearsPongs) {
  door_.door().limits.pong = absl::Milliseconds(10);
  Open("v5.channel.k8s.io");
  client_->Send(Binary(OnChannel(0, "stall")));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x8a, ""}));
  }
  door_.Resume();
  client_->Send(Binary(kCloseStdin));
  Frame frame = client_->ReceiveFrame();
  while (frame.first == 0x8a) {
    frame = client_->ReceiveFrame();
  }
  EXPECT_EQ(frame, (Frame{0x82, "\x01stall"}));
}

TEST_F(WebSocketCommandTest, AClientThatLeavesWhileItsInputIsNotTakenIsNoticed) {
  door_.door().limits.pong = absl::Milliseconds(10);
  Open("v5.channel.k8s.io");
  client_->Send(Binary(OnChannel(0, "stall")));
  EXPECT_EQ(client_->ReceiveFrame(), (Frame{0x8a, ""}));
  client_->Send(Binary(OnChannel(0, "behind it")));
  client_.reset();
  door_.Stop();
  EXPECT_TRUE(door_.stdin_ended);
}

TEST_F(WebSocketCommandTest, PingsAreAnsweredBetweenOutput) {
  Open("v5.channel.k8s.io");
  const std::string message = OnChannel(0, std::string(30'000, 'o'));
  std::string sent;
  for (int i = 0; i < 100; ++i) {
    sent += Binary(message) + MaskedFrame(0x89, base::StrCat(i));
  }
  std::thread sender([this, &sent] { client_->Send(sent); });
  int pongs = 0;
  size_t echoed = 0;
  while (pongs < 100 || echoed < 3'000'000) {
    const Frame frame = client_->ReceiveFrame();
    if (frame.first == 0x8a) {
      EXPECT_EQ(frame.payload, base::StrCat(pongs));
      ++pongs;
    } else {
      ASSERT_EQ(frame.first, 0x82);
      echoed += frame.payload.size() - 1;
    }
  }
  sender.join();
}

}  // namespace
}  // namespace streaming
