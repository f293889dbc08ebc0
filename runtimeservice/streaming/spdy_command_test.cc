#include "runtimeservice/streaming/spdy_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/cleanup/cleanup.h"
#include "runtimeservice/streaming/test_spdy_client.h"
#include "runtimeservice/streaming/test_spdy_vectors.h"

namespace streaming {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(base::ToStd(status.message())); }

// A session that echoes its input on standard output until the input's end, or is told what to do.
class CommandTest : public ::testing::Test, public CommandInput {
 protected:
  void Start(CommandStreams streams, int version = 4, Limits limits = {}) {
    auto [stream, socket] = MakeTestByteStream(thread_.loop());
    client_.emplace(std::move(socket));
    server_ = MakeSpdyCommandClient(thread_.loop(), std::move(stream), version, limits);
    ended_ = std::make_unique<Signal>(thread_.loop());
    Spawn(thread_.loop(), Run(streams));
    thread_.Start();
  }

  Task<> Run(CommandStreams streams) {
    opened_ = co_await server_->Open(streams);
    if (!opened_.ok()) {
      server_->Abort();
      co_return;
    }
    Spawn(thread_.loop(), Read());
    while (!input_ended_ && !read_over_ && streams.stdin_wanted) {
      co_await ended_->Wait();
    }
    for (const std::string& text : errors_) {
      (co_await server_->Write(OutputStream::kStderr, text)).IgnoreError();
    }
    co_await server_->Finish(result_);
    finished_ = true;
  }
  Task<> Read() {
    read_end_ = co_await server_->ReadInput(*this);
    read_over_ = true;
    ended_->Notify();
  }

  Task<> Stdin(std::string_view bytes) override {
    received_ += bytes.size();
    while (stall_ && input_ended_ == 0) {
      co_await ended_->Wait();
    }
    written_ = co_await server_->Write(OutputStream::kStdout, bytes);
  }
  void StdinEnded() override {
    ++input_ended_;
    ended_->Notify();
  }
  void Resized(uint16_t width, uint16_t height) override {
    sizes_.push_back(base::StrCat(width, "x", height));
  }
  SpdyTestClient& client() { return *client_; }
  // The client is gone, and the session with it.
  void End() {
    client_->Close();
    thread_.Join();
  }

  LoopThread thread_;
  std::optional<SpdyTestClient> client_;
  std::unique_ptr<CommandClient> server_;
  std::unique_ptr<Signal> ended_;
  CommandResult result_;
  std::vector<std::string> errors_;
  absl::Status opened_;
  absl::Status read_end_;
  absl::Status written_;
  size_t received_ = 0;
  int input_ended_ = 0;
  bool stall_ = false;  // Takes no input.
  bool read_over_ = false;
  bool finished_ = false;
  std::vector<std::string> sizes_;
};

constexpr CommandStreams kAll = {
    .stdin_wanted = true, .stdout_wanted = true, .stderr_wanted = true};

TEST_F(CommandTest, AWholeSessionAsTheVectorsHaveIt) {
  result_.exit_code = 3;
  errors_ = {"err\n"};
  Start(kAll);
  client().Send(SpdyConversation("exec", "client"));
  const SpdyTestClient::Summary& seen = client().ReadAll();
  EXPECT_TRUE(client().at_end());
  End();
  EXPECT_EQ(seen.replies, (std::set<uint32_t>{1, 3, 5, 7}));
  EXPECT_EQ(seen.data.at(5), "exit 3\n");
  EXPECT_EQ(seen.data.at(7), "err\n");
  EXPECT_EQ(seen.data.at(1), StatusDocument(result_));
  EXPECT_EQ(seen.fins, (std::set<uint32_t>{1, 5, 7}));
  EXPECT_EQ(seen.goaway, SpdyGoAway::kOk);
  EXPECT_TRUE(opened_.ok());
  EXPECT_TRUE(read_end_.ok()) << read_end_;
  EXPECT_TRUE(finished_);
  EXPECT_EQ(input_ended_, 1);
}

TEST_F(CommandTest, TheBlocksOfTheGoClientAreUnderstood) {
  Start(kAll);
  client().Send(SpdyConversation("exec-peer", "client"));
  EXPECT_TRUE(client().ReadUntilReply(5));
  End();
  EXPECT_TRUE(absl::IsCancelled(opened_));
  EXPECT_THAT(Text(opened_), HasSubstr("missing streams: stderr"));
}

TEST_F(CommandTest, EveryByteMayComeAlone) {
  Start(kAll);
  for (const char byte : SpdyConversation("exec", "client")) {
    client().Send(std::string_view(&byte, 1));
  }
  EXPECT_EQ(client().ReadAll().data.at(5), "exit 3\n");
  End();
  EXPECT_TRUE(read_end_.ok());
}

TEST_F(CommandTest, StreamsMayComeInAnyOrderAndUnknownOnesAreIgnored) {
  Start(kAll);
  for (const std::string_view type :
       {"stderr", "telemetry", "stdout", "stdin", "error", "resize"}) {
    client().OpenType(type);
  }
  client().Data(3, "nobody reads this");
  client().Data(7, "input", /*fin=*/true);
  const SpdyTestClient::Summary& seen = client().ReadAll();
  End();
  EXPECT_EQ(seen.replies.size(), 6);
  EXPECT_EQ(seen.data.at(5), "input");
  EXPECT_EQ(seen.data.at(9), R"({"status":"Success"})");
}

TEST_F(CommandTest, TheHeaderIsFoundInAnyCase) {
  Start({.stdout_wanted = true});
  client().Open({{"streamType", "error"}});
  client().Open({{"STREAMTYPE", "stdout"}});
  client().ReadAll();
  End();
  EXPECT_TRUE(opened_.ok());
}

TEST_F(CommandTest, ASecondStreamOfATypeIsReset) {
  Start({.stdout_wanted = true});
  client().OpenType("error");
  client().OpenType("error");
  client().OpenType("stdout");
  const SpdyTestClient::Summary& seen = client().ReadAll();
  End();
  EXPECT_EQ(seen.resets, (std::map<uint32_t, SpdyReset>{{3, SpdyReset::kProtocolError}}));
  EXPECT_EQ(seen.data.at(1), R"({"status":"Success"})");
}

TEST_F(CommandTest, AMissingStreamIsNamedWhenTheTimeIsOver) {
  Start(kAll, 4, {.creation = absl::Milliseconds(50)});
  client().OpenType("error");
  client().OpenType("stdout");
  const SpdyTestClient::Summary& seen = client().ReadAll();
  End();
  EXPECT_EQ(seen.goaway, SpdyGoAway::kOk);
  EXPECT_TRUE(absl::IsDeadlineExceeded(opened_)) << opened_;
  EXPECT_THAT(Text(opened_), HasSubstr("creation_seconds"));
  EXPECT_THAT(Text(opened_), HasSubstr("missing streams: stdin, stderr"));
}

TEST_F(CommandTest, InputThatComesEarlyIsKept) {
  Start(kAll);
  client().OpenType("stdin");
  client().Data(1, "early ", /*fin=*/false);
  client().Data(1, "bird", /*fin=*/true);
  for (const std::string_view type : {"error", "stdout", "stderr"}) {
    client().OpenType(type);
  }
  EXPECT_EQ(client().ReadAll().data.at(5), "early bird");
  End();
  EXPECT_EQ(input_ended_, 1);
}

TEST_F(CommandTest, EarlyInputIsBounded) {
  Start(kAll);
  client().OpenType("stdin");
  client().Data(1, std::string(100 << 10, 'x'));
  client().ReadAll();
  End();
  EXPECT_EQ(opened_.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Text(opened_), HasSubstr("of stdin before all streams were opened"));
}

TEST_F(CommandTest, ATerminalHasOneOutputAndSizes) {
  CommandStreams streams = kAll;
  streams.tty = true;
  Start(streams);
  client().Send(SpdyConversation("exec-tty", "client"));
  client().Data(7, "{\"Width\":100,");
  client().Data(7, "\"Height\":50}{\"Width\":0,\"Height\":9}");
  client().Data(7, "bad");
  client().Data(7, "{\"Width\":1,\"Height\":1}");
  client().Data(3, "", /*fin=*/true);
  EXPECT_EQ(client().ReadAll().data.at(1), R"({"status":"Success"})");
  End();
  EXPECT_THAT(sizes_, ElementsAre("80x24", "100x50"));
}

TEST_F(CommandTest, BeforeVersion3ThereIsNoResizeStreamAndBefore4NoDocument) {
  CommandStreams streams = kAll;
  streams.tty = true;
  result_.exit_code = 1;
  Start(streams, 2);
  for (const std::string_view type : {"error", "stdin", "stdout"}) {
    client().OpenType(type);
  }
  client().Data(3, "", /*fin=*/true);
  EXPECT_EQ(client().ReadAll().data.at(1), "command terminated with exit code 1");
  End();
}

TEST_F(CommandTest, SuccessBeforeVersion4IsSilence) {
  Start({.stdout_wanted = true}, 1);
  client().OpenType("error");
  client().OpenType("stdout");
  const SpdyTestClient::Summary& seen = client().ReadAll();
  End();
  EXPECT_EQ(seen.data.at(1), "");
  EXPECT_EQ(seen.fins, (std::set<uint32_t>{1, 3}));
}

// In frames of the size given, back and forth at the same time.
void Echo(SpdyTestClient& client, const std::string& input, size_t frame_bytes) {
  std::thread sender([&] {
    std::string frames;
    for (size_t at = 0; at < input.size(); at += frame_bytes) {
      frames += SpdyData(3, std::string_view(input).substr(at, frame_bytes));
      if (frames.size() > 1 << 20) {
        client.Send(std::exchange(frames, {}));
      }
    }
    client.Send(frames + SpdyData(3, "", /*fin=*/true));
  });
  const absl::Cleanup join = [&sender] { sender.join(); };
  const bool equal = client.ReadAll().data.at(5) == input;
  EXPECT_TRUE(equal);
}

TEST_F(CommandTest, TenMegabytesComeBackWhateverTheFrames) {
  std::string input(10 << 20, '\0');
  for (size_t at = 0; at < input.size(); ++at) {
    input[at] = static_cast<char>((at * 2654435761U) >> 13);
  }
  Start(kAll);
  for (const std::string_view type : {"error", "stdin", "stdout", "stderr"}) {
    client().OpenType(type);
  }
  Echo(client(), input, 1 << 20);
  End();
  EXPECT_EQ(received_, input.size());
}

TEST_F(CommandTest, FramesOfOneByteAreNotLost) {
  Start(kAll);
  for (const std::string_view type : {"error", "stdin", "stdout", "stderr"}) {
    client().OpenType(type);
  }
  Echo(client(), std::string(100 << 10, 'x'), 1);
  End();
  EXPECT_EQ(received_, 100 << 10);
}

TEST_F(CommandTest, AClientThatLeavesEndsTheSession) {
  Start(kAll);
  for (const std::string_view type : {"error", "stdin", "stdout", "stderr"}) {
    client().OpenType(type);
  }
  client().ReadUntilReply(7);
  End();
  EXPECT_TRUE(absl::IsCancelled(read_end_)) << read_end_;
  EXPECT_EQ(input_ended_, 0);
  EXPECT_TRUE(finished_);
}

TEST_F(CommandTest, AtTheEndNothingIsLostAlthoughTheClientReadsLateAndStillSends) {
  errors_ = {std::string(3 << 20, 'e')};
  Start(kAll);
  for (const std::string_view type : {"error", "stdin", "stdout", "stderr"}) {
    client().OpenType(type);
  }
  client().Data(3, "", /*fin=*/true);
  // All but what the sockets hold has been read, so the server has said goodbye before this ping.
  EXPECT_TRUE(client().ReadUntil([](const SpdyTestClient::Frame& frame) {
    return frame.head.stream == 1 && frame.head.type == SpdyFrame::Type::kData;
  }));
  EXPECT_TRUE(client().Send(SpdyPing(1)));
  client().PauseForInput();
  EXPECT_EQ(client().ReadAll().data.at(7).size(), 3 << 20);
  EXPECT_TRUE(client().at_end());
  End();
  EXPECT_TRUE(read_end_.ok()) << read_end_;
}

TEST_F(CommandTest, WhoHasGotEverythingAndDoesNotCloseIsClosed) {
  Start(kAll, 4, {.farewell = absl::Milliseconds(20)});
  client().Send(SpdyConversation("exec", "client"));
  client().ReadAll();
  EXPECT_TRUE(client().at_end());
  thread_.Join();  // Although the client keeps its connection.
  EXPECT_TRUE(finished_);
}

TEST_F(CommandTest, AClientThatLeavesWhileItsInputWaitsIsNoticed) {
  stall_ = true;
  Start(kAll, 4, {.pong = absl::Milliseconds(20)});
  for (const std::string_view type : {"error", "stdin", "stdout", "stderr"}) {
    client().OpenType(type);
  }
  client().Data(3, "nobody takes this");
  client().Data(3, "and the end of file is behind this");
  client().ReadUntilReply(7);
  End();
  EXPECT_EQ(received_, 17);
  EXPECT_EQ(input_ended_, 1);
  EXPECT_TRUE(absl::IsCancelled(read_end_)) << read_end_;
}

TEST_F(CommandTest, AWriteToAStreamTheClientResetFails) {
  Start(kAll);
  for (const std::string_view type : {"error", "stdin", "stdout", "stderr"}) {
    client().OpenType(type);
  }
  client().Send(SpdyRstStream(5, SpdyReset::kCancel));
  client().Data(3, "x", /*fin=*/true);
  EXPECT_EQ(client().ReadAll().data.at(1), R"({"status":"Success"})");
  End();
  EXPECT_TRUE(absl::IsCancelled(written_)) << written_;
}

}  // namespace
}  // namespace streaming
