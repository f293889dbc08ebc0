#include "imageservice/worker/verdict.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/files.h"
#include "imageservice/worker/fd_packet.h"

namespace imageservice::worker {
namespace {

using ::testing::HasSubstr;

const std::string kDiffId(64, 'a');

base::UniqueFd FileWith(const std::string& words) {
  base::UniqueFd file = MakeUnpackedFile().value();
  EXPECT_TRUE(base::WriteAll(file.get(), words, "words").ok());
  return file;
}

std::string Words(uint64_t bytes = 1) {
  return Encode(LayerMessage(UnpackedLayer{.bytes = bytes, .inodes = 2, .deferred = {}}));
}

class VerdictTest : public ::testing::Test {
 protected:
  VerdictTest() : box_(VerdictBox::Open(&verifier_).value()) {}

  void Send(const std::string& directory, const std::string& words, const std::string& diff_id) {
    const base::UniqueFd file = FileWith(words);
    ASSERT_TRUE(SendVerdict(verifier_.get(), {directory, diff_id}, file.get()).ok());
  }
  std::string TakeError(const std::string& directory, const std::string& diff_id = kDiffId) {
    const auto taken = box_.Take(directory, diff_id);
    EXPECT_TRUE(absl::IsInvalidArgument(taken.status())) << taken.status();
    return std::string(taken.status().message());
  }

  base::UniqueFd verifier_;
  VerdictBox box_;
};

TEST_F(VerdictTest, BelongsToItsFolderAndCountsOnce) {
  Send("1", Words(10), kDiffId);
  Send("2", Words(20), kDiffId);
  const auto second = box_.Take("2", kDiffId);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->bytes, 20u);
  EXPECT_EQ(box_.Take("1", kDiffId)->bytes, 10u);
  EXPECT_THAT(TakeError("1"), HasSubstr("without a verdict"));
}

TEST_F(VerdictTest, OnOtherContentIsNoVerdict) {
  Send("1", Words(), kDiffId);
  EXPECT_THAT(TakeError("1", std::string(64, 'b')), HasSubstr("another content"));
  EXPECT_THAT(TakeError("1"), HasSubstr("without a verdict"));
}

TEST_F(VerdictTest, WithNonsenseOfAParserIsAnError) {
  for (const std::string& words :
       {std::string(), std::string("{"), Encode(LayerMessage(Verified{.diff_id = kDiffId})),
        Encode(LayerMessage(Failed{absl::NotFoundError("x")})), std::string(100'000, '[')}) {
    Send("1", words, kDiffId);
    TakeError("1");
  }
}

TEST_F(VerdictTest, WhoMayStillChangeTheFileIsNotBelieved) {
  const std::string text = EncodeVerdict({"1", kDiffId});
  const base::UniqueFd open_file = FileWith(Words());
  const base::UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::vector<std::vector<int>> sets = {
      {}, {open_file.get()}, {null.get()}, {open_file.get(), open_file.get()}};
  for (const std::vector<int>& fds : sets) {
    ASSERT_TRUE(SendPacket(verifier_.get(), text, fds).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(box_.Receive())) << fds.size();
  }
  EXPECT_THAT(TakeError("1"), HasSubstr("without a verdict"));
}

TEST_F(VerdictTest, MalformedTextIsAnError) {
  for (const std::string& text :
       {std::string("1"), "1 " + std::string(63, 'a'), "1  " + kDiffId, "1 " + kDiffId + " ",
        ".. " + kDiffId, " " + kDiffId, "12345678901 " + kDiffId, "1 " + std::string(64, 'A'),
        "1/2 " + kDiffId}) {
    EXPECT_FALSE(ParseVerdict(text).ok()) << text;
    const base::UniqueFd file = FileWith(Words());
    ASSERT_EQ(fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK), 0);
    ASSERT_TRUE(SendPacket(verifier_.get(), text, {file.get()}).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(box_.Receive())) << text;
  }
}

TEST_F(VerdictTest, AFileThatIsTooLargeIsAnError) {
  const base::UniqueFd file = MakeUnpackedFile().value();
  ASSERT_EQ(ftruncate(file.get(), kMaxUnpackedBytes + 1), 0);
  ASSERT_TRUE(SendVerdict(verifier_.get(), {"1", kDiffId}, file.get()).ok());
  EXPECT_THAT(std::string(box_.Receive().message()), HasSubstr("too large"));
}

TEST_F(VerdictTest, ThoseNobodyAsksForAreBounded) {
  for (int i = 0; i < 200; ++i) {
    Send(std::to_string(i), Words(), kDiffId);
    ASSERT_TRUE(box_.Receive().ok());
  }
  EXPECT_THAT(TakeError("0"), HasSubstr("without a verdict"));
  EXPECT_TRUE(box_.Take("199", kDiffId).ok());
}

// What is on its way counts too: each packet keeps a file alive.
TEST_F(VerdictTest, AFloodWaitsForItsReader) {
  const base::UniqueFd file = FileWith(Words());
  const timeval soon = {.tv_sec = 0, .tv_usec = 100'000};
  ASSERT_EQ(setsockopt(verifier_.get(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)), 0);
  ASSERT_TRUE(SendVerdict(verifier_.get(), {"1", kDiffId}, file.get()).ok());
  int sent = 1;
  while (sent < 100 &&
         SendPacket(verifier_.get(), EncodeVerdict({"1", kDiffId}), {file.get()}).ok()) {
    ++sent;
  }
  EXPECT_LT(sent, 20);
}

TEST_F(VerdictTest, TheEndOfAllVerifiersIsNoNews) {
  Send("1", Words(), kDiffId);
  verifier_.Reset();
  EXPECT_TRUE(box_.Receive().ok());
  EXPECT_EQ(box_.fd(), -1) << "poll would return at once, again and again";
  EXPECT_TRUE(box_.Take("1", kDiffId).ok());
}

TEST(FdPacketTest, BoundsAreTheSendersAndTheReceivers) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  base::UniqueFd ours(ends[0]);
  const base::UniqueFd theirs(ends[1]);
  const std::string longest(kMaxPacketBytes, 'x');
  EXPECT_FALSE(SendPacket(ours.get(), "", {}).ok());
  EXPECT_FALSE(SendPacket(ours.get(), longest + "x", {}).ok());
  EXPECT_FALSE(SendPacket(ours.get(), "x", {1, 1, 1}).ok());
  ASSERT_EQ(send(ours.get(), (longest + "x").data(), longest.size() + 1, 0),
            static_cast<ssize_t>(longest.size() + 1));
  EXPECT_TRUE(absl::IsInvalidArgument(ReceivePacket(theirs.get(), Wait::kBlock).status()));
  ASSERT_TRUE(SendPacket(ours.get(), longest, {0, 1}).ok());
  const auto packet = ReceivePacket(theirs.get(), Wait::kBlock);
  ASSERT_TRUE(packet.ok()) << packet.status();
  EXPECT_EQ((*packet)->bytes, longest);
  EXPECT_EQ((*packet)->fds.size(), 2u);
  EXPECT_FALSE(ReceivePacket(theirs.get(), Wait::kNever)->has_value());
  ours.Reset();
  EXPECT_TRUE(absl::IsOutOfRange(ReceivePacket(theirs.get(), Wait::kBlock).status()));
}

}  // namespace
}  // namespace imageservice::worker
