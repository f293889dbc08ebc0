// The real crisp-pull and OCI artifacts, from servers made for the occasion.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <string>

#include "base/files.h"
#include "base/json.h"
#include "base/sha.h"
#include "base/strings.h"
#include "imageservice/worker/artifact.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/test_pull_fixture.h"

namespace imageservice::worker {
namespace {

using base::Json;
using ::testing::HasSubstr;

class ArtifactPullTest : public ServerPullTest {
 protected:
  // Serves an artifact of these files.
  void MakeRoot(const std::vector<TestLayout::File>& files) { root_ = layout_.AddArtifact(files); }
  std::string File(const PullOutcome& outcome, int index, const std::string& name) {
    return base::ReadFile(base::StrCat(daemon_.LayerPath(outcome, index), "/", name)).value_or("?");
  }
};

TEST_F(ArtifactPullTest, ABlobThatBreaksOffGoesOnWhereItWas) {
  MakeRoot({{"big", BigText()}, {"a/small", "small"}});
  std::atomic<int> cuts = 0;
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request) || cuts++ > 0) return std::nullopt;
    TestResponse response = Honest(request);
    response.cut_after = 1'000'000;
    return response;
  });
  const PullOutcome outcome = Pull();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(File(outcome, 0, "big"), BigText());
  EXPECT_EQ(File(outcome, 1, "a/small"), "small");
  bool is_resumed = false;
  for (const TestRequest& request : server_->requests()) {
    is_resumed = is_resumed || request.header("range") == "bytes=1000000-";
  }
  EXPECT_TRUE(is_resumed);
  EXPECT_EQ(outcome.progress.bytes_done, outcome.progress.bytes_total);
  EXPECT_EQ(outcome.resolved->image_id, Sha256Hex(outcome.resolved->manifest));
  for (const LayerQuestion& question : outcome.questions) {
    EXPECT_EQ(question.parent, "");
    EXPECT_EQ(question.chain_id, question.diff_id);
  }
}

TEST_F(ArtifactPullTest, ADamagedBlobIsNoFile) {
  MakeRoot({{"big", BigText()}});
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    TestResponse response = Honest(request);
    response.body[response.body.size() / 2] ^= 1;
    return response;
  });
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss) << outcome.status;
  EXPECT_TRUE(outcome.layers.empty());
}

// The fixture looks at the worker's memory.
TEST_F(ArtifactPullTest, ALargeBlobIsNeverInMemory) {
  std::string large;
  while (large.size() < (128 << 20)) large += BigText();
  MakeRoot({{"large", large}});
  Serve(Nothing());
  const PullOutcome outcome = Pull();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  struct stat info = {};
  ASSERT_EQ(stat((daemon_.LayerPath(outcome, 0) + "/large").c_str(), &info), 0);
  EXPECT_EQ(static_cast<size_t>(info.st_size), large.size());
  EXPECT_GE(outcome.layers.at(0).unpacked.bytes, large.size());
  EXPECT_LT(outcome.layers.at(0).unpacked.bytes, large.size() + (1 << 20));
  EXPECT_EQ(outcome.layers.at(0).unpacked.inodes, 2u);
}

TEST_F(ArtifactPullTest, ADigestOfTheOtherAlgorithmIsAFileToo) {
  const std::string digest = base::StrCat("sha512:", base::Sha512Hex("text"));
  root_ = layout_.AddArtifact(
      {},
      {{"layers", Json::array({{{"mediaType", "text/plain"},
                                {"digest", digest},
                                {"size", 4},
                                {"annotations", {{"org.opencontainers.image.title", "file"}}}}})}});
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (request.target.find(digest) == std::string::npos) return std::nullopt;
    return TestResponse{.body = "text"};
  });
  const PullOutcome outcome = Pull();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(File(outcome, 0, "file"), "text");
  EXPECT_EQ(outcome.questions[0].diff_id, ArtifactDiffId({"file", digest}));
}

TEST_F(ArtifactPullTest, ABlobBeyondTheLimitIsRefused) {
  MakeRoot({{"big", BigText()}});
  Serve(Nothing());
  PullRequest request = Request();
  request.limits.max_layer_bytes = 1 << 20;
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kResourceExhausted) << outcome.status;
  EXPECT_THAT(Message(outcome), HasSubstr("larger than"));
}

}  // namespace
}  // namespace imageservice::worker
