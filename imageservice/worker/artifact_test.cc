#include "imageservice/worker/artifact.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/files.h"
#include "base/sha.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "imageservice/worker/artifact_file.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/test_archive.h"
#include "imageservice/worker/unpack.h"

namespace imageservice::worker {
namespace {

using base::Json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string DigestOf(const std::string& text) {
  return base::StrCat("sha256:", base::Sha256Hex(text));
}

// An artifact whose blobs have these titles; an empty one is none.
Json Artifact(const std::vector<std::string>& titles) {
  Json layers = Json::array();
  for (const std::string& title : titles) {
    Json layer = {{"mediaType", "text/plain"},
                  {"digest", DigestOf(base::StrCat(layers.size()))},
                  {"size", 1}};
    if (!title.empty()) {
      layer["annotations"] = {{"org.opencontainers.image.title", title}};
    }
    layers.push_back(layer);
  }
  return {{"artifactType", "application/vnd.example"}, {"layers", layers}};
}

std::vector<std::string> NamesOf(const Json& manifest) {
  const auto files = ParseArtifactFiles(manifest);
  std::vector<std::string> names;
  if (!files.ok()) {
    return {files.status().ToString()};
  }
  for (const ArtifactFile& file : *files) {
    names.push_back(file.name);
  }
  return names;
}

absl::StatusCode CodeOf(const std::vector<std::string>& titles) {
  return ParseArtifactFiles(Artifact(titles)).status().code();
}

TEST(ArtifactTest, BlobsAreCalledByTheirTitles) {
  EXPECT_THAT(NamesOf(Artifact({"model.bin", "a/b.txt", "./c//d/."})),
              ::testing::ElementsAre("model.bin", "a/b.txt", "c/d"));
}

TEST(ArtifactTest, WithoutATitleTheFilePathOrTheDigestIsTheName) {
  Json artifact = Artifact({"", ""});
  artifact["layers"][0]["annotations"] = {{"org.cncf.model.filepath", "weights/1"}};
  EXPECT_THAT(NamesOf(artifact),
              ::testing::ElementsAre("weights/1", "sha256-" + base::Sha256Hex("1")));
}

TEST(ArtifactTest, TheEmptyDescriptorIsNoFile) {
  Json artifact = Artifact({""});
  artifact["layers"][0]["mediaType"] = "application/vnd.oci.empty.v1+json";
  artifact["layers"][0]["digest"] = DigestOf("{}");
  EXPECT_THAT(NamesOf(artifact), ::testing::ElementsAre(""));
  artifact["layers"][0]["digest"] = DigestOf("x");
  EXPECT_THAT(NamesOf(artifact), ::testing::ElementsAre("sha256-" + base::Sha256Hex("x")));
}

TEST(ArtifactTest, NamesThatLeadElsewhereAreRefused) {
  const std::string part(kMaxFileNameBytes, 'x');
  for (const std::string& title :
       {std::string("/etc/passwd"), std::string("../x"), std::string("a/../../x"),
        std::string("a/.."), std::string("."), std::string("./"), std::string("a\0b", 3),
        part + "x", base::StrCat(part, "/", part, "/", part, "/", part, "/", part)}) {
    const auto files = ParseArtifactFiles(Artifact({"good", title}));
    EXPECT_EQ(files.status().code(), absl::StatusCode::kInvalidArgument) << title;
    EXPECT_THAT(std::string(files.status().message()), HasSubstr(DigestOf("1"))) << title;
  }
  std::string deep = "x";
  for (size_t depth = 1; depth < kMaxArtifactNameDepth; ++depth) deep += "/x";
  EXPECT_EQ(CodeOf({deep, part}), absl::StatusCode::kOk);
  EXPECT_EQ(CodeOf({deep + "/x"}), absl::StatusCode::kInvalidArgument);
}

TEST(ArtifactTest, NoTwoBlobsStandInEachOthersWay) {
  EXPECT_EQ(CodeOf({"a", "a"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf({"a", "./a"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf({"a", "a/b"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf({"a/b/c", "a/b"}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf({"a/b", "a/c", "ab", "b"}), absl::StatusCode::kOk);
}

TEST(ArtifactTest, WhatIsNoListOfBlobsIsRefused) {
  EXPECT_EQ(CodeOf(std::vector<std::string>(kMaxLayers)), absl::StatusCode::kOk);
  EXPECT_EQ(CodeOf(std::vector<std::string>(kMaxLayers + 1)), absl::StatusCode::kInvalidArgument);
  Json artifact = Artifact({"a"});
  artifact["layers"][0]["annotations"]["org.opencontainers.image.title"] = 7;
  EXPECT_FALSE(ParseArtifactFiles(artifact).ok());
  EXPECT_FALSE(ParseArtifactFiles(Json{{"layers", 7}}).ok());
  EXPECT_FALSE(ParseArtifactFiles(Json::array()).ok());
}

// It is shown on terminals.
TEST(ArtifactTest, ATypeIsPlainText) {
  const auto code = [](const std::string& type) {
    return ArtifactTypeOf(Json{{"artifactType", type}, {"config", Json::object()}}).status().code();
  };
  for (const std::string& type : {std::string("text/x+json;v=1"), std::string(255, 'x')}) {
    EXPECT_EQ(code(type), absl::StatusCode::kOk) << type;
  }
  for (const std::string& type :
       {std::string("text/\x1b[2J"), std::string("two words"), std::string("t\xc3\xa4xt/x"),
        std::string("text/x\n"), std::string(kMaxArtifactTypeBytes + 1, 'x')}) {
    EXPECT_EQ(code(type), absl::StatusCode::kInvalidArgument) << type;
  }
}

TEST(ArtifactTest, ALayersIdDependsOnContentAndName) {
  const std::string id = ArtifactDiffId({"a", DigestOf("x")});
  EXPECT_EQ(id.size(), 64u);
  EXPECT_EQ(id, ArtifactDiffId({"a", DigestOf("x")}));
  EXPECT_NE(id, ArtifactDiffId({"b", DigestOf("x")}));
  EXPECT_NE(id, ArtifactDiffId({"a", DigestOf("y")}));
  EXPECT_NE(base::StrCat("sha256:", id), DigestOf("x"));
}

// An image's diff ID is its archive's digest. What an artifact's hashes must unpack to nothing.
TEST(ArtifactTest, NoArchiveHasTheIdOfAFile) {
  const std::string digest = base::StrCat("sha512:", base::Sha512Hex("x"));
  const std::string text =
      base::StrCat("crisp artifact file 1 ", digest, " ", base::Sha256Hex("a"));
  ASSERT_EQ(base::Sha256Hex(text), ArtifactDiffId({"a", digest})) << "the text is another now";
  const TempDirectory directory;
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const base::UniqueFd archive(ends[0]);
  ASSERT_EQ(write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(ends[1]);
  const base::UniqueFd root = base::Open(directory.path(), O_RDONLY | O_DIRECTORY).value();
  EXPECT_FALSE(UnpackLayer(archive.get(), root.get(), 10).ok());
}

TEST(ArtifactFileTest, BytesBecomeOneFileThatIsAlwaysTheSame) {
  const TempDirectory directory;
  const base::UniqueFd root = base::Open(directory.path(), O_RDONLY | O_DIRECTORY).value();
  // Also bytes that look like an archive.
  const std::string text = Gzip(Tar({{.name = "etc/passwd", .content = "x"}}));
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const base::UniqueFd blob(ends[0]);
  ASSERT_EQ(write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(ends[1]);
  const auto summary = WriteArtifactFile(blob.get(), root.get(), "a/.wh.b/c");
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->inodes, 4u);
  EXPECT_THAT(summary->deferred, IsEmpty());
  const std::string path = directory.path() + "/a/.wh.b/c";
  EXPECT_EQ(base::ReadFile(path).value(), text);
  struct stat info = {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode, S_IFREG | 0644u);
  EXPECT_EQ(info.st_mtim.tv_sec, 0);
  ASSERT_EQ(stat((directory.path() + "/a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode, S_IFDIR | 0755u);
  EXPECT_EQ(info.st_mtim.tv_sec, 0);
  ASSERT_EQ(stat(directory.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0755u);
}

}  // namespace
}  // namespace imageservice::worker
