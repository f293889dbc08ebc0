// Many bytes through exec and port-forward, byte for byte; and sessions that do not read.
// CRISP_STREAM_MEGABYTES says how many.
#include <thread>

#include "base/strings.h"
#include "test/integration/pod_server.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

constexpr size_t kPiece = 32 << 10;

class StreamsTransferTest : public StreamsFixture, public testing::WithParamInterface<Transport> {
 protected:
  static ForwardTransport forward() {
    return GetParam() == Transport::kSpdy ? ForwardTransport::kSpdy : ForwardTransport::kTunnel;
  }

  // What comes from connection 0 until it ends, summed up.
  static absl::StatusOr<ByteSum> SumOfConnection(ForwardSession& session) {
    ByteSum sum;
    while (true) {
      ASSIGN_OR_RETURN(const ForwardEvent event, session.Next(kAnswer));
      if (event.kind == ForwardEvent::Kind::kEnded) return sum;
      if (event.kind == ForwardEvent::Kind::kPing) continue;
      if (event.kind != ForwardEvent::Kind::kData) {
        return absl::UnavailableError(base::ToAbsl(base::StrCat("error: ", event.bytes)));
      }
      sum.Add(event.bytes);
    }
  }

  static ByteSum Expected(int64_t size, uint64_t seed) {
    ByteSum sum;
    TestBytes bytes(seed);
    for (int64_t done = 0; done < size; done += kPiece) sum.Add(bytes.Next(kPiece));
    return sum;
  }
};

// `cat` gives back what it gets, so both directions flow at once and are compared.
TEST_P(StreamsTransferTest, ManyBytesGoIntoACommandAndComeBackAsTheyWere) {
  const int64_t size = TransferBytes();
  ASSERT_OK_AND_ASSIGN(auto session, OpenExec("cat", Streams(GetParam(), "ioe")));
  absl::Status written;
  std::thread writer([&] {
    TestBytes bytes(7);
    for (int64_t sent = 0; sent < size && written.ok(); sent += kPiece) {
      written = session->Send(Channel::kStdin, bytes.Next(kPiece));
    }
    if (written.ok()) written = session->FinishInput();
  });
  ByteSum sum;
  std::string status;
  absl::Status read;
  while (!session->done()) {
    const auto event = session->Next(kAnswer);
    read = event.status();
    if (!read.ok()) break;
    if (event->kind != CommandEvent::Kind::kData) continue;
    if (event->channel == Channel::kStdout) sum.Add(event->bytes);
    if (event->channel == Channel::kError) status += event->bytes;
  }
  writer.join();
  EXPECT_OK(read);
  EXPECT_OK(written);
  EXPECT_EQ(sum.Text(), Expected(size, 7).Text());
  EXPECT_EQ(CommandOutcome{.status = status}.exit_code(), 0) << status;
}

// As `kubectl cp` does it: the checksum is the container's own.
TEST_P(StreamsTransferTest, AFileIsCopiedIntoAContainerAndOut) {
  const int64_t size = TransferBytes();
  ASSERT_OK_AND_ASSIGN(
      auto in, OpenExec("cat > /tmp/file; sha256sum < /tmp/file", Streams(GetParam(), "ioe")));
  TestBytes bytes(9);
  for (int64_t sent = 0; sent < size; sent += kPiece) {
    ASSERT_OK(in->Send(Channel::kStdin, bytes.Next(kPiece)));
  }
  ASSERT_OK(in->FinishInput());
  ASSERT_OK_AND_ASSIGN(const CommandOutcome stored, in->ReadAll(absl::Minutes(2)));
  EXPECT_EQ(stored.exit_code(), 0) << stored.status;
  ASSERT_OK_AND_ASSIGN(auto out, OpenExec("cat /tmp/file", Streams(GetParam(), "oe")));
  ByteSum sum;
  while (!out->done()) {
    ASSERT_OK_AND_ASSIGN(const CommandEvent event, out->Next(kAnswer));
    if (event.kind == CommandEvent::Kind::kData && event.channel == Channel::kStdout) {
      sum.Add(event.bytes);
    }
  }
  EXPECT_EQ(sum.Text(), Expected(size, 9).Text());
  EXPECT_OK(RunExec("rm /tmp/file"));
}

TEST_P(StreamsTransferTest, ManyBytesGoToAPortAndComeFromIt) {
  const int64_t size = TransferBytes();
  ASSERT_OK_AND_ASSIGN(const auto sink, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                         PodServer::Kind::kDigest));
  ASSERT_OK_AND_ASSIGN(const auto source, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                           PodServer::Kind::kSource));
  ASSERT_OK_AND_ASSIGN(std::string url, ForwardUrl());
  ASSERT_OK_AND_ASSIGN(auto session, ForwardSession::Open(url, forward()));
  ASSERT_OK_AND_ASSIGN(const size_t to, session->Connect(sink->port()));
  TestBytes bytes(3);
  for (int64_t sent = 0; sent < size; sent += kPiece) {
    ASSERT_OK(session->Send(to, bytes.Next(kPiece)));
  }
  ASSERT_OK(session->Finish(to));
  std::string answer;
  while (true) {
    ASSERT_OK_AND_ASSIGN(const ForwardEvent event, session->Next(absl::Minutes(2)));
    if (event.kind == ForwardEvent::Kind::kEnded) break;
    ASSERT_EQ(event.kind, ForwardEvent::Kind::kData) << event.bytes;
    answer += event.bytes;
  }
  EXPECT_EQ(answer, Expected(size, 3).Text() + "\n");

  ASSERT_OK_AND_ASSIGN(const size_t from, session->Connect(source->port()));
  ASSERT_OK(session->Send(from, base::StrCat(size, "\n")));
  ASSERT_OK_AND_ASSIGN(const ByteSum sum, SumOfConnection(*session));
  ByteSum expected;
  TestBytes sent(1);
  for (int64_t done = 0; done < size; done += 256 << 10) expected.Add(sent.Next(256 << 10));
  EXPECT_EQ(sum.Text(), expected.Text());
}

TEST_P(StreamsTransferTest, AClientThatStopsReadingHurtsNobodyElse) {
  ASSERT_OK(RunExec("true", Streams(GetParam(), "oe")));
  ASSERT_OK_AND_ASSIGN(auto stuck, OpenExec("yes", Streams(GetParam(), "o")));
  ASSERT_OK(stuck->ReadUntil("y\n"));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome,
                       RunExec("yes | head -c 10000000 | wc -c", Streams(GetParam(), "o")));
  EXPECT_EQ(outcome.out, "10000000\n");
  EXPECT_TRUE(ServerHasAtMost(32 * 1024)) << "what it does not read is not kept";
  EXPECT_TRUE(Runs("yes"));
  // Its command ends at its next write.
  stuck->wire().Reset();
  stuck.reset();
  EXPECT_TRUE(Eventually([&] { return !Runs("yes"); }));
  EXPECT_TRUE(Eventually([&] { return SessionFolders().empty(); }));
}

INSTANTIATE_TEST_SUITE_P(All, StreamsTransferTest,
                         testing::Values(Transport::kSpdy, Transport::kWebSocket),
                         [](const auto& parameter) {
                           return parameter.param == Transport::kSpdy ? "Spdy" : "WebSocket";
                         });

}  // namespace
}  // namespace test
