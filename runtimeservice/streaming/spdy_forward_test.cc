#include "runtimeservice/streaming/spdy_forward.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtimeservice/streaming/test_spdy_client.h"
#include "runtimeservice/streaming/test_spdy_vectors.h"

namespace streaming {
namespace {

using ::testing::HasSubstr;

// Echoes each connection until the client's half-close, then half-closes. Port 1 fails, port 2 is
// dropped at once, port 3 is never read.
class ForwardTest : public ::testing::Test {
 protected:
  void Start(Limits limits = {}) {
    auto [stream, socket] = MakeTestByteStream(thread_.loop());
    client_.emplace(std::move(socket));
    server_ = MakeSpdyForwardClient(thread_.loop(), std::move(stream), limits);
    Spawn(thread_.loop(), Serve());
    thread_.Start();
  }
  Task<> Serve() {
    const ForwardClient::OnConnection opened =
        [this](std::shared_ptr<ForwardedConnection> connection) {
          ++opened_;
          Spawn(thread_.loop(), Echo(std::move(connection)));
        };
    end_ = co_await server_->Serve(opened);
  }
  Task<> Echo(std::shared_ptr<ForwardedConnection> connection) {
    if (connection->port() == 1) {
      co_await connection->Fail("port 1: connection refused");
      co_return;
    }
    if (connection->port() == 2) {
      co_return;
    }
    if (connection->port() == 3 || connection->port() == 4) {
      if (connection->port() == 4) {
        (co_await connection->Read()).IgnoreError();
      }
      kept_.push_back(std::move(connection));
      co_return;
    }
    while (true) {
      const absl::StatusOr<std::string_view> bytes = co_await connection->Read();
      if (!bytes.ok()) {
        ++given_up_;
        co_return;
      }
      if (bytes->empty()) {
        break;
      }
      (co_await connection->Write(*bytes)).IgnoreError();
    }
    co_await connection->FinishWriting();
    const absl::StatusOr<std::string_view> behind = co_await connection->Read();
    (behind.ok() ? ended_ : given_up_) += 1;
  }

  // Opens a pair; returns its data stream.
  uint32_t OpenPair(uint32_t request, std::string_view port = "80") {
    const std::string id = base::StrCat(request);
    const uint32_t error =
        client().Open({{"streamtype", "error"}, {"port", port}, {"requestid", id}});
    client().Data(error, "", /*fin=*/true);
    return client().Open({{"streamtype", "data"}, {"port", port}, {"requestid", id}});
  }
  bool ReadUntilReset(uint32_t stream) {
    return client().ReadUntil([stream](const SpdyTestClient::Frame& frame) {
      return frame.head.type == SpdyFrame::Type::kReset && frame.head.stream == stream;
    });
  }
  bool ReadUntilFin(uint32_t stream) {
    return client().seen.fins.contains(stream) ||
           client().ReadUntil([stream](const SpdyTestClient::Frame& frame) {
             return frame.head.fin && frame.head.stream == stream;
           });
  }
  SpdyTestClient& client() { return *client_; }
  const SpdyTestClient::Summary& seen() { return client().seen; }
  // Sends to many targets less than one of them may have waiting, but for all 40 MB. Returns for
  // how many it was taken.
  int SendToMany(std::string_view port) {
    const timeval shortly = {.tv_sec = 0, .tv_usec = 200'000};
    setsockopt(client().fd(), SOL_SOCKET, SO_SNDTIMEO, &shortly, sizeof(shortly));
    const std::string bytes(100 << 10, 'x');
    int taken = 0;
    while (taken < 400 &&
           client().Send(SpdyData(OpenPair(static_cast<uint32_t>(taken), port), bytes))) {
      ++taken;
    }
    End();
    kept_.clear();
    return taken;
  }
  void End() {
    client_->Close();
    thread_.Join();
  }

  LoopThread thread_;
  std::optional<SpdyTestClient> client_;
  std::unique_ptr<ForwardClient> server_;
  std::vector<std::shared_ptr<ForwardedConnection>> kept_;
  absl::Status end_;
  int opened_ = 0;
  int ended_ = 0;
  int given_up_ = 0;
};

TEST_F(ForwardTest, AWholeConnectionAsTheVectorsHaveIt) {
  Start();
  client().Send(SpdyConversation("portforward", "client"));
  EXPECT_TRUE(ReadUntilFin(3));
  EXPECT_TRUE(ReadUntilFin(1));
  End();
  EXPECT_EQ(seen().data.at(3), "GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(seen().data.at(1), "");
  EXPECT_EQ(opened_, 1);
  EXPECT_EQ(ended_, 1);
  EXPECT_TRUE(absl::IsCancelled(end_)) << end_;
}

TEST_F(ForwardTest, OldClientsOpenThePairOneBehindTheOther) {
  Start();
  client().Open({{"streamtype", "error"}, {"port", "80"}});
  const uint32_t data = client().Open({{"streamtype", "data"}, {"port", "80"}});
  client().Data(data, "hello", /*fin=*/true);
  EXPECT_TRUE(ReadUntilFin(data));
  End();
  EXPECT_EQ(seen().data.at(data), "hello");
}

TEST_F(ForwardTest, BadHeadersAreRefused) {
  Start();
  for (const std::string_view port : {"0", "65536", "-1", "+1", "0x50", " 80", ""}) {
    client().Open({{"streamtype", "data"}, {"port", port}, {"requestid", "1"}});
  }
  client().Open({{"streamtype", "data"}, {"requestid", "1"}});
  client().Open({{"port", "80"}, {"requestid", "1"}});
  client().Open({{"streamtype", "stdin"}, {"port", "80"}, {"requestid", "1"}});
  client().Open({{"streamtype", "data"}, {"port", "80"}, {"requestid", "one"}});
  client().Open({{"streamtype", "data"}, {"port", "80"}, {"requestid", "18446744073709551616"}});
  EXPECT_TRUE(ReadUntilReset(23));
  const uint32_t good = OpenPair(1);
  client().Data(good, "x", /*fin=*/true);
  EXPECT_TRUE(ReadUntilFin(good));
  End();
  EXPECT_EQ(seen().resets.size(), 12);
  EXPECT_EQ(seen().resets.at(1), SpdyReset::kProtocolError);
}

TEST_F(ForwardTest, StreamsThatDoNotFitTheirPairAreRefused) {
  Start();
  client().Open({{"streamtype", "error"}, {"port", "80"}, {"requestid", "7"}});
  client().Open({{"streamtype", "error"}, {"port", "80"}, {"requestid", "7"}});
  client().Open({{"streamtype", "data"}, {"port", "81"}, {"requestid", "7"}});
  EXPECT_TRUE(ReadUntilReset(5));
  End();
  EXPECT_TRUE(seen().resets.contains(3));
  EXPECT_EQ(seen().replies, (std::set<uint32_t>{1}));
  EXPECT_EQ(opened_, 0);
}

TEST_F(ForwardTest, AFailureIsToldAndBothStreamsAreReset) {
  Start();
  const uint32_t data = OpenPair(1, "1");
  EXPECT_TRUE(ReadUntilReset(data));
  End();
  EXPECT_EQ(seen().data.at(1), "port 1: connection refused");
  EXPECT_TRUE(seen().resets.contains(1));
}

TEST_F(ForwardTest, AConnectionThatNobodyServesIsReset) {
  Start();
  const uint32_t data = OpenPair(1, "2");
  EXPECT_TRUE(ReadUntilReset(data));
  End();
  EXPECT_FALSE(seen().data.contains(1));
}

TEST_F(ForwardTest, AnIncompletePairEndsWithAText) {
  Start({.creation = absl::Milliseconds(50)});
  const uint32_t error =
      client().Open({{"streamtype", "error"}, {"port", "80"}, {"requestid", "1"}});
  EXPECT_TRUE(ReadUntilReset(error));
  EXPECT_THAT(seen().data.at(error), HasSubstr("port 80: its data stream was not opened"));
  const uint32_t data = client().Open({{"streamtype", "data"}, {"port", "81"}, {"requestid", "2"}});
  EXPECT_TRUE(ReadUntilReset(data));
  EXPECT_THAT(seen().data.at(data), HasSubstr("creation_seconds"));
  // Both numbers are free again.
  for (const uint32_t request : {1, 2}) {
    const uint32_t good = OpenPair(request);
    client().Data(good, "x", /*fin=*/true);
    EXPECT_TRUE(ReadUntilFin(good));
  }
  End();
  EXPECT_EQ(opened_, 2);
}

TEST_F(ForwardTest, HundredsOfPairsAtOnceWithPingsBetween) {
  constexpr uint32_t kPairs = 400;
  Start();
  std::vector<uint32_t> streams;
  for (uint32_t request = 0; request < kPairs; ++request) {
    streams.push_back(OpenPair(request, request % 10 == 9 ? "1" : "80"));
    if (request % 50 == 0) {
      client().Send(SpdyPing(2 * request + 1));
    }
  }
  std::thread sender([&] {
    for (int round = 0; round < 4; ++round) {
      for (const uint32_t stream : streams) {
        client().Data(stream, base::StrCat("<", stream, ">"), /*fin=*/round == 3);
      }
    }
  });
  size_t over = 0;
  EXPECT_TRUE(client().ReadUntil([&](const SpdyTestClient::Frame& frame) {
    const bool is_data = frame.head.stream % 4 == 3;
    over += is_data && (frame.head.fin || frame.head.type == SpdyFrame::Type::kReset);
    return over == kPairs;
  }));
  sender.join();
  EXPECT_EQ(seen().pings.size(), kPairs / 50);
  for (uint32_t request = 0; request < kPairs; ++request) {
    const uint32_t stream = streams[request];
    if (request % 10 != 9) {
      const std::string part = base::StrCat("<", stream, ">");
      EXPECT_EQ(seen().data.at(stream), part + part + part + part);
    } else {
      EXPECT_EQ(seen().data.at(stream - 2), "port 1: connection refused");
    }
  }
  End();
  EXPECT_EQ(opened_, kPairs);
}

TEST_F(ForwardTest, ThousandsOfPairsOneAfterTheOtherLeaveNothing) {
  // If ended streams counted, the limit would refuse the third pair.
  Start({.max_streams = 4});
  for (uint32_t request = 0; request < 3000; ++request) {
    const uint32_t data = OpenPair(request);
    client().Data(data, "x", /*fin=*/true);
    ASSERT_TRUE(ReadUntilFin(data)) << request;
    ASSERT_TRUE(ReadUntilFin(data - 2)) << request;
  }
  End();
  EXPECT_EQ(ended_, 3000);
  EXPECT_TRUE(seen().resets.empty());
}

TEST_F(ForwardTest, TheClientMayGiveOneConnectionUp) {
  Start();
  const uint32_t first = OpenPair(1);
  const uint32_t second = OpenPair(2);
  client().Send(SpdyRstStream(first, SpdyReset::kCancel));
  client().Data(second, "still here", /*fin=*/true);
  EXPECT_TRUE(ReadUntilFin(second));
  EXPECT_TRUE(ReadUntilFin(first - 2));
  End();
  EXPECT_EQ(seen().data.at(second), "still here");
  EXPECT_EQ(given_up_, 1);
  EXPECT_EQ(ended_, 1);
}

TEST_F(ForwardTest, AResetBehindTheHalfCloseIsSeen) {
  Start();
  const uint32_t data = OpenPair(1);
  client().Data(data, "", /*fin=*/true);
  client().Send(SpdyRstStream(data, SpdyReset::kCancel));
  client().Send(SpdyPing(1));
  EXPECT_TRUE(client().ReadUntil([](const SpdyTestClient::Frame& frame) {
    return frame.head.type == SpdyFrame::Type::kPing;
  }));
  End();
  EXPECT_EQ(ended_ + given_up_, 1);
}

TEST_F(ForwardTest, AnErrorStreamThatItsClientLeavesOpenEndsWithItsConnection) {
  Start();
  const uint32_t error =
      client().Open({{"streamtype", "error"}, {"port", "80"}, {"requestid", "1"}});
  const uint32_t data = client().Open({{"streamtype", "data"}, {"port", "80"}, {"requestid", "1"}});
  client().Data(data, "", /*fin=*/true);
  EXPECT_TRUE(ReadUntilReset(error));
  EXPECT_TRUE(seen().fins.contains(error) && seen().fins.contains(data));
  End();
}

TEST_F(ForwardTest, ATargetThatDoesNotReadSlowsItsClientDownAndItsLeavingIsNoticed) {
  Start({.pong = absl::Milliseconds(20)});
  const uint32_t data = OpenPair(1, "3");
  EXPECT_TRUE(client().ReadUntilReply(data));
  const timeval shortly = {.tv_sec = 0, .tv_usec = 200'000};
  setsockopt(client().fd(), SOL_SOCKET, SO_SNDTIMEO, &shortly, sizeof(shortly));
  // Far more than all buffers on the way.
  EXPECT_FALSE(client().Send(SpdyData(data, std::string((16 << 20) - 1, 'x'))));
  End();
  kept_.clear();
  EXPECT_EQ(opened_, 1);
}

TEST_F(ForwardTest, WhatWaitsForManyTargetsIsBoundedTogether) {
  Start({.pong = absl::Milliseconds(20)});
  const int taken = SendToMany("3");
  EXPECT_GT(taken, 5);
  EXPECT_LT(taken, 30);
}

TEST_F(ForwardTest, WhatManyTargetsAreBeingGivenIsBoundedTogether) {
  Start({.pong = absl::Milliseconds(20)});
  const int taken = SendToMany("4");
  EXPECT_GT(taken, 5);
  EXPECT_LT(taken, 30);
}

TEST_F(ForwardTest, WhenTheClientLeavesEveryConnectionIsCancelled) {
  Start();
  for (uint32_t request = 0; request < 20; ++request) {
    const uint32_t data = OpenPair(request);
    if (request % 2 == 0) {
      client().Data(data, "", /*fin=*/true);
    }
  }
  client().Open({{"streamtype", "error"}, {"port", "80"}, {"requestid", "99"}}, /*fin=*/true);
  EXPECT_TRUE(client().ReadUntilReply(81));
  End();
  EXPECT_EQ(opened_, 20);
  EXPECT_EQ(ended_ + given_up_, 20);
  EXPECT_TRUE(absl::IsCancelled(end_));
}

TEST_F(ForwardTest, AGoodbyeIsFollowedByTheEndOnceTheStreamsAreOver) {
  Start();
  const uint32_t data = OpenPair(1);
  client().Send(SpdyGoAwayFrame(0, SpdyGoAway::kOk));
  const uint32_t late =
      client().Open({{"streamtype", "error"}, {"port", "80"}, {"requestid", "2"}});
  EXPECT_TRUE(ReadUntilReset(late));
  EXPECT_EQ(seen().resets.at(late), SpdyReset::kRefusedStream);
  client().Data(data, "last words", /*fin=*/true);
  client().ReadAll();
  EXPECT_TRUE(client().at_end());
  End();
  EXPECT_EQ(seen().data.at(data), "last words");
  EXPECT_EQ(seen().goaway, SpdyGoAway::kOk);
}

}  // namespace
}  // namespace streaming
