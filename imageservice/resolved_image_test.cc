#include "imageservice/resolved_image.h"

#include <gtest/gtest.h>

#include "base/sha.h"
#include "base/strings.h"
#include "imageservice/testing/fake_image.h"
#include "imageservice/worker/artifact.h"

namespace imageservice {
namespace {

class ResolvedImageTest : public ::testing::Test {
 protected:
  ResolvedImageTest() {
    resolved_.manifest_digest = fake_.manifest_digest;
    resolved_.index_digest = fake_.index_digest;
    resolved_.indexes = {fake_.index};
    resolved_.manifest = fake_.manifest;
    resolved_.config = fake_.config;
    resolved_.image_id = fake_.id;
  }
  absl::StatusCode Code(const std::string& wanted = "") const {
    return VerifyResolved(resolved_, wanted).status().code();
  }

  const testing::FakeImage fake_ = testing::MakeFakeImage("abc");
  worker::Resolved resolved_;
};

TEST_F(ResolvedImageTest, DocumentsThatBelongTogetherAreBelieved) {
  for (const std::string& wanted : {std::string(), fake_.index_digest}) {
    const auto image = VerifyResolved(resolved_, wanted);
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_EQ(image->chain_ids, fake_.chain_ids);
  }
}

TEST_F(ResolvedImageTest, AnotherDocumentThanAskedForIsNot) {
  EXPECT_EQ(Code("sha256:" + std::string(64, '5')), absl::StatusCode::kInternal);
  // The index was asked for by its digest; that it lists this manifest must be shown, not said.
  resolved_.indexes.clear();
  resolved_.index_digest.clear();
  EXPECT_EQ(Code(fake_.index_digest), absl::StatusCode::kInternal);
  EXPECT_EQ(Code(fake_.manifest_digest), absl::StatusCode::kOk);
}

TEST_F(ResolvedImageTest, AManifestThatItsIndexDoesNotListIsNot) {
  const testing::FakeImage other = testing::MakeFakeImage("d");
  resolved_.indexes = {other.index};
  resolved_.index_digest = other.index_digest;
  EXPECT_EQ(Code(), absl::StatusCode::kInternal);
  resolved_.index_digest = fake_.index_digest;
  EXPECT_EQ(Code(), absl::StatusCode::kInternal) << "an index of another digest";
}

TEST_F(ResolvedImageTest, NestedIndexesAreFollowed) {
  const std::string outer = R"({"manifests":[{"digest":")" + fake_.index_digest + R"("}]})";
  resolved_.indexes = {outer, fake_.index};
  resolved_.index_digest = "sha256:" + base::Sha256Hex(outer);
  EXPECT_EQ(Code(resolved_.index_digest), absl::StatusCode::kOk);
  resolved_.indexes = {outer, R"({"manifests":[]})"};
  EXPECT_EQ(Code(), absl::StatusCode::kInternal);
}

TEST_F(ResolvedImageTest, AConfigThatIsNotTheManifestsIsNot) {
  const testing::FakeImage other = testing::MakeFakeImage("d");
  resolved_.config = other.config;
  EXPECT_EQ(Code(), absl::StatusCode::kInternal) << "not the image id's";
  resolved_.image_id = other.id;
  EXPECT_EQ(Code(), absl::StatusCode::kInternal) << "not the manifest's";
}

// An artifact's id is its manifest's, and its layers follow from the manifest alone.
TEST_F(ResolvedImageTest, AnArtifactIsItsManifest) {
  const std::string blob = "sha256:" + base::Sha256Hex("x");
  worker::Resolved artifact;
  artifact.config = "\xff any bytes";
  const auto settle = [&](const std::string& title) {
    artifact.manifest =
        base::StrCat(R"({"artifactType":"t/x","config":{"mediaType":"t/y","digest":"sha256:)",
                     base::Sha256Hex(artifact.config), R"("},"layers":[{"digest":")", blob,
                     R"(","annotations":{"org.opencontainers.image.title":")", title, R"("}}]})");
    artifact.image_id = base::Sha256Hex(artifact.manifest);
    artifact.manifest_digest = "sha256:" + artifact.image_id;
    return VerifyResolved(artifact, "");
  };
  auto image = settle("a/b");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->artifact_type, "t/x");
  ASSERT_EQ(image->chain_ids.size(), 1u);
  EXPECT_EQ(image->chain_ids[0], worker::ArtifactDiffId({"a/b", blob}));
  EXPECT_EQ(image->config.diff_ids, image->chain_ids);
  EXPECT_EQ(settle("../b").status().code(), absl::StatusCode::kInvalidArgument);
  settle("a").status().IgnoreError();
  artifact.image_id = base::Sha256Hex(artifact.config);
  EXPECT_EQ(VerifyResolved(artifact, "").status().code(), absl::StatusCode::kInternal);
  settle("a").status().IgnoreError();
  artifact.config += "x";
  EXPECT_EQ(VerifyResolved(artifact, "").status().code(), absl::StatusCode::kInternal);
}

TEST_F(ResolvedImageTest, DocumentsThatMakeNoSenseAreInvalid) {
  resolved_.index_digest.clear();
  resolved_.indexes.clear();
  resolved_.manifest = R"({"config":"x"})";
  resolved_.manifest_digest = "sha256:" + base::Sha256Hex(resolved_.manifest);
  EXPECT_EQ(Code(), absl::StatusCode::kInvalidArgument);
}

TEST(DigestTest, BothAlgorithmsAreKnown) {
  EXPECT_TRUE(HasDigest("x", "sha512:" + base::Sha512Hex("x")));
  EXPECT_FALSE(HasDigest("x", "sha512:" + base::Sha512Hex("y")));
  EXPECT_FALSE(HasDigest("x", "md5:" + base::Sha256Hex("x")));
}

// The example of the OCI image-spec's facts: three layers.
TEST(DigestTest, ChainIdsAreTheSpecifications) {
  const std::string first = base::Sha256Hex("");
  const std::string second = ChainIdOf(first, base::Sha256Hex("abc"));
  EXPECT_EQ(ChainIdOf("", first), first);
  EXPECT_EQ(second, "a893da35bd22286079f2f3931516d3423eb9b4945f2379e0f8a501ec3d665dd6");
}

}  // namespace
}  // namespace imageservice
