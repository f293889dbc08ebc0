#include "runtimeservice/streaming/spdy_connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/post.hpp>

#include "runtimeservice/streaming/test_spdy_client.h"
#include "runtimeservice/streaming/test_spdy_vectors.h"

namespace streaming {
namespace {

using ::testing::HasSubstr;

// Accepts every stream and counts what comes on it.
class ConnectionTest : public ::testing::Test {
 protected:
  void Start(Limits limits = {}) {
    Prepare(limits);
    thread_.Start();
  }
  // What the client sends before the loop runs is there all at once.
  void Prepare(Limits limits) {
    auto [stream, socket] = MakeTestByteStream(thread_.loop());
    client_.emplace(std::move(socket));
    server_ = SpdyConnection::Create(thread_.loop(), std::move(stream), limits);
    Spawn(thread_.loop(), Serve());
  }
  Task<> Serve() {
    while (true) {
      const absl::StatusOr<std::optional<SpdyEvent>> event = co_await server_->Next();
      if (!event.ok() || !event->has_value()) {
        end_ = event.status();
        break;
      }
      if ((*event)->kind == SpdyEvent::Kind::kOpened) {
        ++opened_;
        server_->Accept((*event)->stream);
      }
      resets_ += (*event)->kind == SpdyEvent::Kind::kReset;
      received_[(*event)->stream] += (*event)->bytes;
      if ((*event)->bytes.ends_with("flood me")) {
        Spawn(thread_.loop(), Flood((*event)->stream));
      }
    }
  }
  // Counts how often it has the loop between the first stream and the first data.
  Task<> CountTurns() {
    while (received_[1].empty() && !server_->closed()) {
      turns_ += opened_ > 0 ? 1 : 0;
      co_await asio::post(thread_.loop(), asio::use_awaitable);
    }
  }
  // Writes until it cannot any more.
  Task<> Flood(uint32_t stream) {
    const std::string bytes(100 << 10, 'f');
    absl::Status status;
    while (status.ok()) {
      status = co_await server_->Write(stream, bytes);
    }
    flood_end_ = status;
  }
  SpdyTestClient& client() { return *client_; }
  const SpdyTestClient::Summary& seen() { return client().seen; }
  std::string end_text() { return std::string(base::ToStd(end_.message())); }
  void End() {
    client_->Close();
    thread_.Join();
  }
  bool ReadUntilPing(uint32_t id) {
    return client().ReadUntil([id](const SpdyTestClient::Frame& frame) {
      return frame.head.type == SpdyFrame::Type::kPing && frame.head.value == id;
    });
  }
  // What a client gets that has broken the protocol: GOAWAY, then end of file.
  void ExpectThrownOut() {
    client().ReadAll();
    EXPECT_TRUE(client().at_end());
    EXPECT_EQ(seen().goaway, SpdyGoAway::kProtocolError);
    End();
  }

  LoopThread thread_;
  std::optional<SpdyTestClient> client_;
  std::shared_ptr<SpdyConnection> server_;
  absl::Status end_;
  absl::Status flood_end_;
  int opened_ = 0;
  int resets_ = 0;
  int turns_ = 0;
  std::map<uint32_t, std::string> received_;
};

TEST_F(ConnectionTest, OnlyTheClientsPingsAreAnswered) {
  Start();
  client().Send(SpdyPing(1) + SpdyPing(2) + SpdyPing(0x7fffffff) + SpdyPing(5));
  EXPECT_TRUE(ReadUntilPing(5));
  End();
  EXPECT_EQ(seen().pings, (std::vector<uint32_t>{1, 0x7fffffff, 5}));
}

TEST_F(ConnectionTest, WhatIsOfNoUseIsIgnored) {
  Start();
  for (const SpdyVector& vector : SpdyVectors()) {
    if (vector.group == "control" && !vector.frame.starts_with("GOAWAY")) {
      client().Send(vector.bytes());
    }
  }
  client().Data(99, "for a stream that is not open");
  client().Send(std::string_view("\x80\x03\x00\x63\x00\x00\x00\x02zz", 10));
  const uint32_t stream = client().Open({});
  client().Data(stream, "x");
  client().Send(SpdyPing(7));
  EXPECT_TRUE(ReadUntilPing(7));
  End();
  EXPECT_EQ(received_, (std::map<uint32_t, std::string>{{stream, "x"}}));
}

TEST_F(ConnectionTest, StreamIdsAreOddAndIncrease) {
  Start();
  client().Send(client().OpenFrame(5, {{"a", "b"}}));
  client().Send(client().OpenFrame(3, {{"a", "b"}}));
  client().Send(client().OpenFrame(6, {{"a", "b"}}));
  client().Send(client().OpenFrame(0, {{"a", "b"}}));
  client().Send(client().OpenFrame(11, {{"a", "b"}}));
  client().Send(SpdyPing(1));
  EXPECT_TRUE(ReadUntilPing(1));
  End();
  EXPECT_EQ(seen().replies, (std::set<uint32_t>{5, 11}));
  EXPECT_EQ(seen().resets, (std::map<uint32_t, SpdyReset>{{0, SpdyReset::kProtocolError},
                                                          {3, SpdyReset::kProtocolError},
                                                          {6, SpdyReset::kProtocolError}}));
}

TEST_F(ConnectionTest, ADuplicateEndsItsStreamForBothSides) {
  Start();
  client().Send(client().OpenFrame(1, {}));
  client().Send(client().OpenFrame(1, {}));
  client().Data(1, "late");
  client().Send(SpdyPing(1));
  EXPECT_TRUE(ReadUntilPing(1));
  End();
  EXPECT_EQ(resets_, 1);
  EXPECT_EQ(received_[1], "");
}

TEST_F(ConnectionTest, OneWayStreamsAndBadHeadersAreReset) {
  Start();
  std::string one_way = client().OpenFrame(1, {});
  one_way[4] = 2;
  client().Send(one_way);
  client().Send(client().OpenFrame(3, {{"", "nameless"}}));
  client().Send(client().OpenFrame(5, {}));
  EXPECT_TRUE(client().ReadUntilReply(5));
  End();
  EXPECT_EQ(seen().resets.size(), 2);
  EXPECT_EQ(opened_, 1);
}

TEST_F(ConnectionTest, AFloodOfStreamsIsRefusedBeyondTheLimitAndItsHeadersAreStillInflated) {
  Start({.max_streams = 10});
  for (int number = 0; number < 1000; ++number) {
    client().Open({{"number", base::StrCat(number)}});
  }
  client().Send(SpdyRstStream(1, SpdyReset::kCancel) + SpdyPing(1));
  EXPECT_TRUE(ReadUntilPing(1));
  const uint32_t good = client().Open({});
  EXPECT_TRUE(client().ReadUntilReply(good));
  End();
  EXPECT_EQ(opened_, 11);
  EXPECT_EQ(seen().resets.size(), 990);
  EXPECT_EQ(seen().resets.at(21), SpdyReset::kRefusedStream);
}

TEST_F(ConnectionTest, LargeHeaderBlocksLeaveOthersTheirTurn) {
  Start({.max_streams = 1});
  std::string frames;
  const std::string large(60 << 10, 'a');
  uint32_t next = 1;
  while (frames.size() < 40 << 10) {
    frames += client().OpenFrame(next, {{"a", large}});
    next += 2;
  }
  const size_t inflated = (next / 2) * large.size();
  ASSERT_GT(inflated, 8 << 20);
  // All of it is one buffer of input.
  asio::post(thread_.loop(), [this] { Spawn(thread_.loop(), CountTurns()); });
  client().Send(frames + SpdyData(1, "x") + SpdyPing(1));
  EXPECT_TRUE(ReadUntilPing(1));
  End();
  EXPECT_GT(turns_, static_cast<int>(inflated / (1 << 20)));
}

TEST_F(ConnectionTest, ABlockThatCannotBeInflatedIsTheEnd) {
  Start();
  client().Send(SpdySynStream(1, std::string_view("garbage\0\0\xff\xff", 11)));
  ExpectThrownOut();
  EXPECT_EQ(end_.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ConnectionTest, AHeaderBombIsTheEndAndTheLimitIsNamed) {
  Start();
  const std::string bomb(10 << 20, 'a');
  client().Open({{"a", bomb}});
  ExpectThrownOut();
  EXPECT_EQ(end_.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(end_text(), HasSubstr("max_header_bytes"));
}

TEST_F(ConnectionTest, AFrameThatIsTooLongIsTheEndAndTheLimitIsNamed) {
  Start({.max_frame_bytes = 1000});
  const uint32_t stream = client().Open({});
  client().Data(stream, std::string(1000, 'x'));
  client().Data(stream, std::string(1001, 'x'));
  ExpectThrownOut();
  EXPECT_THAT(end_text(), HasSubstr("max_frame_bytes (1000)"));
  EXPECT_EQ(received_[stream].size(), 1000);
}

TEST_F(ConnectionTest, WhatIsNotSpdyIsTheEnd) {
  Start();
  client().Send("\xff\xff\xff\xff\xff\xff\xff\xff and much more");
  ExpectThrownOut();
  EXPECT_THAT(end_text(), HasSubstr("version"));
}

TEST_F(ConnectionTest, WithoutDataTheConnectionEndsAndPingsDoNotCount) {
  Start({.idle = absl::Milliseconds(100)});
  const uint32_t stream = client().Open({});
  client().Data(stream, "x");
  std::thread pinger([this] {
    for (uint32_t id = 1; client().Send(SpdyPing(id)); id += 2) {
      client().PauseForInput();
    }
  });
  client().ReadAll();
  client().Shutdown();
  pinger.join();
  End();
  EXPECT_EQ(seen().goaway, SpdyGoAway::kOk);
  EXPECT_TRUE(absl::IsDeadlineExceeded(end_)) << end_;
  EXPECT_THAT(end_text(), HasSubstr("idle_seconds"));
}

TEST_F(ConnectionTest, AFloodOfPingsByAClientThatDoesNotReadIsHeldUp) {
  Start();
  const timeval shortly = {.tv_sec = 0, .tv_usec = 200'000};
  setsockopt(client().fd(), SOL_SOCKET, SO_SNDTIMEO, &shortly, sizeof(shortly));
  std::string pings;
  for (uint32_t number = 0; number < 4096; ++number) {
    pings += SpdyPing(2 * number + 1);
  }
  // Answers take as much room as pings: were they all kept, this would go on for ever.
  size_t sent = 0;
  while (sent < (64 << 20) && client().Send(pings)) {
    sent += pings.size();
  }
  EXPECT_LT(sent, 64 << 20);
  End();
}

TEST_F(ConnectionTest, PingsAreAnsweredWhileOutputWaitsForItsReader) {
  Start();
  const uint32_t stream = client().Open({});
  client().Data(stream, "flood me");
  // More input than the sockets hold: it is taken although the pings' answers wait for the client.
  client().Send(SpdyPing(1));
  client().Data(stream, std::string(4 << 20, 'i'));
  client().Send(SpdyPing(3));
  EXPECT_TRUE(ReadUntilPing(3));
  End();
  EXPECT_EQ(received_[stream].size(), (4 << 20) + 8);
  EXPECT_TRUE(absl::IsCancelled(flood_end_)) << flood_end_;
}

TEST_F(ConnectionTest, ManySmallFramesLeaveOthersTheirTurn) {
  Prepare({});
  std::string frames = client().OpenFrame(1, {});
  frames += client().OpenFrame(3, {});
  constexpr int kFrames = 12'000;
  for (int i = 0; i < kFrames; ++i) {
    frames += SpdyData(3, "y");
  }
  asio::post(thread_.loop(), [this] { Spawn(thread_.loop(), CountTurns()); });
  client().Send(frames + SpdyData(1, "x") + SpdyPing(1));
  thread_.Start();
  EXPECT_TRUE(ReadUntilPing(1));
  End();
  EXPECT_EQ(received_[3].size(), size_t{kFrames});
  EXPECT_GE(turns_, kFrames / 1024);
}

TEST_F(ConnectionTest, WritersTakeTurns) {
  Start();
  for (int number = 0; number < 3; ++number) {
    client().Data(client().Open({}), "flood me");
  }
  std::map<uint32_t, size_t> bytes;
  EXPECT_TRUE(client().ReadUntil([&](const SpdyTestClient::Frame& frame) {
    bytes[frame.head.stream] += frame.bytes.size();
    return bytes[1] > 10 << 20 && bytes[3] > 10 << 20 && bytes[5] > 10 << 20;
  }));
  End();
  // Turn by turn: none is far ahead.
  EXPECT_LT(bytes[1], 15 << 20);
  EXPECT_LT(bytes[3], 15 << 20);
  EXPECT_LT(bytes[5], 15 << 20);
}

}  // namespace
}  // namespace streaming
