#include "runtimeservice/streaming/protocol.h"

#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/strings.h"
#include "gmock/gmock.h"

namespace streaming {
namespace {

using crisp::stream::Reply;
using crisp::stream::Request;
using crisp::stream::Settings;

class StreamProtocolTest : public testing::Test {
 protected:
  StreamProtocolTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours_.Reset(ends[0]);
    theirs_.Reset(ends[1]);
  }
  static base::Context Patience() { return base::Context::Detached(absl::Seconds(30)); }

  base::UniqueFd ours_;
  base::UniqueFd theirs_;
};

TEST_F(StreamProtocolTest, AMessageArrivesAsItWasSent) {
  Request request;
  request.mutable_open()->mutable_exec()->set_container_id("c1");
  ASSERT_TRUE(SendMessage(Patience(), ours_.get(), request).ok());
  ASSERT_TRUE(SendMessage(Patience(), ours_.get(), Request()).ok());
  Request received;
  ASSERT_TRUE(ReceiveMessage(Patience(), theirs_.get(), &received).ok());
  EXPECT_EQ(received.open().exec().container_id(), "c1");
  ASSERT_TRUE(ReceiveMessage(Patience(), theirs_.get(), &received).ok());
  EXPECT_EQ(received.kind_case(), Request::KIND_NOT_SET);
}

TEST_F(StreamProtocolTest, AMessageThatFillsTheSocketIsSentWhole) {
  Request request;
  request.mutable_open()->mutable_exec()->set_process(std::string(5 << 20, 'x'));
  std::thread reader([&] {
    Request received;
    EXPECT_TRUE(ReceiveMessage(Patience(), theirs_.get(), &received).ok());
    EXPECT_EQ(received.open().exec().process().size(), size_t{5} << 20);
  });
  EXPECT_TRUE(SendMessage(Patience(), ours_.get(), request).ok());
  reader.join();
}

TEST_F(StreamProtocolTest, TooLongAMessageIsNotSentNorTaken) {
  Request request;
  request.mutable_open()->mutable_exec()->set_process(std::string(kMaxFrameBytes, 'x'));
  EXPECT_TRUE(absl::IsResourceExhausted(SendMessage(Patience(), ours_.get(), request)));
  ASSERT_EQ(write(ours_.get(), "\x7f\xff\xff\xff", 4), 4);
  EXPECT_TRUE(absl::IsInternal(ReceiveMessage(Patience(), theirs_.get(), &request)));
  FrameReader frames;
  frames.Append(std::string_view("\x7f\xff\xff\xff", 4));
  EXPECT_TRUE(absl::IsResourceExhausted(frames.Next().status()));
}

TEST_F(StreamProtocolTest, TheEndAndTheDeadlineAreTold) {
  Reply reply;
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      ReceiveMessage(base::Context::Detached(absl::ZeroDuration()), ours_.get(), &reply)));
  ASSERT_EQ(write(theirs_.get(), "\0\0", 2), 2);
  theirs_.Reset();
  EXPECT_TRUE(absl::IsUnavailable(ReceiveMessage(Patience(), ours_.get(), &reply)));
  EXPECT_TRUE(absl::IsUnavailable(SendMessage(Patience(), ours_.get(), reply)));
}

TEST_F(StreamProtocolTest, RubbishIsAnError) {
  ASSERT_EQ(write(theirs_.get(), "\0\0\0\3\xff\xff\xff", 7), 7);
  Reply reply;
  EXPECT_TRUE(absl::IsInternal(ReceiveMessage(Patience(), ours_.get(), &reply)));
}

TEST(StreamFrameReaderTest, FramesComeOutOfPieces) {
  Request request;
  request.mutable_open()->mutable_attach()->set_container_id("c1");
  const std::string bytes = EncodeFrame(request).value() + EncodeFrame(Request()).value();
  FrameReader frames;
  std::vector<std::string> got;
  for (const char byte : bytes) {
    frames.Append(std::string_view(&byte, 1));
    for (auto next = frames.Next().value(); next.has_value(); next = frames.Next().value()) {
      got.push_back(*next);
    }
  }
  EXPECT_THAT(got, testing::ElementsAre(request.SerializeAsString(), ""));
}

TEST(StreamFilesTest, NamesAreTold) {
  EXPECT_TRUE(IsInstanceName("0123abcd"));
  EXPECT_FALSE(IsInstanceName("0123abcg"));
  EXPECT_FALSE(IsInstanceName("lock"));
  EXPECT_TRUE(IsExecName("0123456789abcdef"));
  EXPECT_FALSE(IsExecName("0123abcd"));
}

TEST(StreamFingerprintTest, ChangesWithSettingsAndProgramOnly) {
  const std::string program = base::StrCat("/tmp/crisp-fingerprint-", getpid());
  std::ofstream(program) << "one";
  Settings settings;
  settings.set_address("127.0.0.1");
  const std::string first = Fingerprint(program, settings).value();
  settings.set_directory("/x");
  settings.set_fingerprint("y");
  EXPECT_EQ(Fingerprint(program, settings).value(), first);
  settings.set_port(5);
  const std::string other_port = Fingerprint(program, settings).value();
  EXPECT_NE(other_port, first);
  std::ofstream(program) << "longer";
  EXPECT_NE(Fingerprint(program, settings).value(), other_port);
  unlink(program.c_str());
  EXPECT_TRUE(absl::IsNotFound(Fingerprint(program, settings).status()));
}

}  // namespace
}  // namespace streaming
