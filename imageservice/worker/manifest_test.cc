#include "imageservice/worker/manifest.h"

#include <gtest/gtest.h>

#include <string>

#include "base/json.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"

namespace imageservice::worker {
namespace {

using base::Json;

const char kDigestA[] = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const char kDigestB[] = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const char kOciManifest[] = "application/vnd.oci.image.manifest.v1+json";
const char kOciIndex[] = "application/vnd.oci.image.index.v1+json";

Json GoodManifest() {
  return {{"schemaVersion", 2},
          {"config",
           {{"mediaType", "application/vnd.oci.image.config.v1+json"},
            {"digest", kDigestA},
            {"size", 10}}},
          {"layers", Json::array({{{"mediaType", "application/vnd.oci.image.layer.v1.tar+gzip"},
                                   {"digest", kDigestB},
                                   {"size", 20}}})}};
}

Json Entry(const std::string& digest, const std::string& os, const std::string& architecture,
           const std::string& variant = "") {
  return {{"mediaType", kOciManifest},
          {"digest", digest},
          {"size", 1},
          {"platform", {{"os", os}, {"architecture", architecture}, {"variant", variant}}}};
}

std::string Digest(char c) { return "sha256:" + std::string(64, c); }

absl::StatusOr<std::variant<Index, Manifest>> Parse(const Json& json,
                                                    std::string_view type = kOciManifest) {
  return ParseManifest(base::DumpJson(json), type);
}

std::string Choice(const Json& entries, const Platform& wanted) {
  const Json json = {{"schemaVersion", 2}, {"manifests", entries}};
  const auto parsed = Parse(json, kOciIndex);
  if (!parsed.ok()) return std::string(parsed.status().message());
  const auto chosen = ChooseManifest(std::get<Index>(*parsed), wanted);
  return chosen.ok() ? chosen->digest : std::string(chosen.status().message());
}

TEST(ManifestTest, ReadsAnImageManifest) {
  const auto parsed = Parse(GoodManifest());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const Manifest& manifest = std::get<Manifest>(*parsed);
  EXPECT_EQ(manifest.media_type, kOciManifest);
  EXPECT_EQ(manifest.config.digest, kDigestA);
  ASSERT_EQ(manifest.layers.size(), 1u);
  EXPECT_EQ(manifest.layers[0].size, 20u);
}

TEST(ManifestTest, IsToldByItsMembersWhenTheTypeSaysNothing) {
  for (const char* type : {"", "text/plain", "application/json"}) {
    EXPECT_TRUE(Parse(GoodManifest(), type).ok()) << type;
  }
}

TEST(ManifestTest, RejectsADocumentThatIsBothIndexAndManifest) {
  Json json = GoodManifest();
  json["manifests"] = Json::array();
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kInvalidArgument);
  json.erase("layers");
  EXPECT_FALSE(Parse(json, kOciIndex).ok());
}

TEST(ManifestTest, RejectsAContradictingMediaType) {
  EXPECT_FALSE(Parse(GoodManifest(), kOciIndex).ok());
  Json json = GoodManifest();
  json["mediaType"] = kOciIndex;
  EXPECT_FALSE(Parse(json).ok());
}

TEST(ManifestTest, RefusesSchema1ByName) {
  const Json json = {{"schemaVersion", 1}, {"fsLayers", Json::array()}};
  for (const char* type :
       {"", "application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json"}) {
    const auto parsed = Parse(json, type);
    ASSERT_FALSE(parsed.ok());
    EXPECT_NE(parsed.status().message().find("schema 1"), absl::string_view::npos) << type;
  }
}

TEST(ManifestTest, WhatIsNoImageIsAnArtifactOfFiles) {
  Json json = GoodManifest();
  json["config"]["mediaType"] = "application/vnd.oci.empty.v1+json";
  json["artifactType"] = "application/vnd.example.sbom";
  json["layers"][0]["mediaType"] = "text/plain";
  json["layers"][0]["annotations"] = {{"org.opencontainers.image.title", "a/b.txt"}};
  auto parsed = Parse(json);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  Manifest manifest = std::get<Manifest>(*parsed);
  EXPECT_EQ(manifest.artifact_type, "application/vnd.example.sbom");
  ASSERT_EQ(manifest.layers.size(), json["layers"].size());
  EXPECT_EQ(manifest.layers[0].file_name, "a/b.txt");
  json.erase("artifactType");
  json["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json";
  parsed = Parse(json);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(std::get<Manifest>(*parsed).artifact_type, "application/vnd.cncf.helm.config.v1+json");
}

TEST(ManifestTest, AnImageIsAnImageWhateverElseItCallsItself) {
  Json json = GoodManifest();
  json["artifactType"] = "application/vnd.example.bootable";
  auto parsed = Parse(json);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(std::get<Manifest>(*parsed).artifact_type, "");
  // But no image has such layers.
  json["layers"][0]["mediaType"] = "text/plain";
  parsed = Parse(json);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(std::get<Manifest>(*parsed).artifact_type, "application/vnd.example.bootable");
  json.erase("artifactType");
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ManifestTest, RefusesWhatSaysNotWhatItIs) {
  Json json = GoodManifest();
  json["config"].erase("mediaType");
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kFailedPrecondition);
  const Json draft = {{"artifactType", "application/vnd.example.sbom"}, {"blobs", Json::array()}};
  const absl::Status status =
      Parse(draft, "application/vnd.oci.artifact.manifest.v1+json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("draft"), absl::string_view::npos) << status;
}

TEST(ManifestTest, AcceptsForeignLayersAndKeepsTheirUrls) {
  for (const char* type : {"application/vnd.docker.image.rootfs.foreign.diff.tar",
                           "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                           "application/vnd.oci.image.layer.nondistributable.v1.tar",
                           "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                           "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"}) {
    Json json = GoodManifest();
    json["layers"][0]["mediaType"] = type;
    json["layers"][0]["urls"] = {"https://one.example/blob", "http://two.example/blob"};
    const auto parsed = Parse(json);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const std::vector<std::string> expected = {"https://one.example/blob",
                                               "http://two.example/blob"};
    EXPECT_EQ(std::get<Manifest>(*parsed).layers[0].urls, expected);
  }
  Json json = GoodManifest();
  json["layers"][0]["urls"] = "https://no.list.example";
  EXPECT_FALSE(Parse(json).ok());
}

TEST(ManifestTest, KeepsEmbeddedContentOfTheRightSizeOnly) {
  const auto data_of = [](const Json& data) {
    Json json = GoodManifest();
    json["config"]["size"] = 2;
    json["config"]["data"] = data;
    const auto parsed = Parse(json);
    return parsed.ok() ? std::get<Manifest>(*parsed).config.data
                       : std::string(base::ToStd(parsed.status().message()));
  };
  EXPECT_EQ(data_of("e30="), "{}");
  EXPECT_EQ(data_of("e30"), "{}");
  for (const Json& bad : {Json("e30gIA=="), Json("!"), Json(7), Json(), Json("")}) {
    EXPECT_EQ(data_of(bad), "") << base::DumpJson(bad);
  }
}

TEST(ManifestTest, RefusesLayersOfUnknownType) {
  Json json = GoodManifest();
  json["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+encrypted";
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ManifestTest, RejectsBadDescriptors) {
  for (const Json& bad : {Json("sha256:../../x"), Json("md5:abc"), Json(7), Json()}) {
    Json json = GoodManifest();
    json["layers"][0]["digest"] = bad;
    EXPECT_FALSE(Parse(json).ok()) << base::DumpJson(bad);
  }
  for (const Json& bad : {Json(-1), Json("x"), Json(), Json(1.5)}) {
    Json json = GoodManifest();
    json["config"]["size"] = bad;
    EXPECT_FALSE(Parse(json).ok()) << base::DumpJson(bad);
  }
}

TEST(ManifestTest, LimitsTheNumberOfLayers) {
  Json json = GoodManifest();
  const Json layer = json["layers"][0];
  json["layers"] = Json::array();
  for (size_t i = 0; i <= kMaxLayers; ++i) json["layers"].push_back(layer);
  EXPECT_FALSE(Parse(json).ok());
}

TEST(PlatformTest, ChoosesTheOwnArchitecture) {
  const Json entries = {Entry(Digest('1'), "linux", "arm64"), Entry(Digest('2'), "linux", "amd64"),
                        Entry(Digest('3'), "windows", "amd64")};
  EXPECT_EQ(Choice(entries, {"linux", "amd64", ""}), Digest('2'));
  EXPECT_EQ(Choice(entries, {"linux", "arm64", "v8"}), Digest('1'));
}

TEST(PlatformTest, PrefersTheNearestLowerVariant) {
  const Json entries = {
      Entry(Digest('1'), "linux", "arm", "v5"), Entry(Digest('2'), "linux", "arm", "v6"),
      Entry(Digest('3'), "linux", "arm", "v7"), Entry(Digest('4'), "linux", "arm", "v8")};
  EXPECT_EQ(Choice(entries, {"linux", "arm", "v7"}), Digest('3'));
  EXPECT_EQ(Choice(entries, {"linux", "arm", ""}), Digest('3'));
  EXPECT_EQ(Choice(entries, {"linux", "arm", "v6"}), Digest('2'));
}

TEST(PlatformTest, NeverChoosesAHigherVariant) {
  const Json entries = {Entry(Digest('1'), "linux", "amd64", "v3")};
  EXPECT_NE(Choice(entries, {"linux", "amd64", "v2"}), Digest('1'));
  EXPECT_EQ(Choice(entries, {"linux", "amd64", "v4"}), Digest('1'));
}

TEST(PlatformTest, SkipsAttestationsAndNamesWhatThereIs) {
  const Json entries = {Entry(Digest('1'), "unknown", "unknown"),
                        Entry(Digest('2'), "linux", "s390x")};
  const std::string message = Choice(entries, {"linux", "amd64", ""});
  EXPECT_NE(message.find("linux/amd64"), std::string::npos) << message;
  EXPECT_NE(message.find("linux/s390x"), std::string::npos) << message;
}

TEST(PlatformTest, TakesAnArtifactOnlyWhenThereIsNoImage) {
  Json artifact = Entry(Digest('1'), "", "");
  artifact.erase("platform");
  artifact["artifactType"] = "application/vnd.example.signature";
  const Platform wanted = {"linux", "amd64", ""};
  EXPECT_EQ(Choice({artifact, Entry(Digest('2'), "linux", "amd64")}, wanted), Digest('2'));
  EXPECT_NE(Choice({artifact, Entry(Digest('2'), "linux", "arm64")}, wanted).find("linux/arm64"),
            std::string::npos);
  EXPECT_EQ(Choice(Json::array({artifact}), wanted), Digest('1'));
}

TEST(PlatformTest, ChoosesAmongArtifactsByPlatform) {
  const auto artifact = [](char digit, const char* architecture) {
    Json entry = Entry(Digest(digit), "linux", architecture);
    entry["artifactType"] = "application/vnd.example.model";
    return entry;
  };
  Json any = artifact('3', "");
  any.erase("platform");
  const Json entries = {any, artifact('1', "amd64"), artifact('2', "arm64")};
  EXPECT_EQ(Choice(entries, {"linux", "arm64", ""}), Digest('2'));
  EXPECT_EQ(Choice(entries, {"linux", "s390x", ""}), Digest('3'));
  EXPECT_NE(Choice({artifact('1', "amd64"), artifact('2', "arm64")}, {"linux", "s390x", ""})
                .find("linux/amd64, linux/arm64"),
            std::string::npos);
}

TEST(PlatformTest, PrefersZstdAmongEquals) {
  Json zstd = Entry(Digest('2'), "linux", "amd64");
  zstd["annotations"] = {{"io.github.containers.compression.zstd", "true"}};
  EXPECT_EQ(Choice({Entry(Digest('1'), "linux", "amd64"), zstd}, {"linux", "amd64", ""}),
            Digest('2'));
}

TEST(PlatformTest, TakesAnEntryWithoutPlatformOnlyAsLastResort) {
  Json bare = Entry(Digest('1'), "", "");
  bare.erase("platform");
  EXPECT_EQ(Choice({bare, Entry(Digest('2'), "linux", "amd64")}, {"linux", "amd64", ""}),
            Digest('2'));
  EXPECT_EQ(Choice(Json::array({bare}), {"linux", "amd64", ""}), Digest('1'));
}

TEST(ImageConfigTest, ReadsPlatformAndDiffIds) {
  const Json json = {{"os", "linux"},
                     {"architecture", "amd64"},
                     {"rootfs", {{"type", "layers"}, {"diff_ids", {kDigestA, kDigestB}}}}};
  const auto config = ParseImageConfig(base::DumpJson(json));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->diff_ids.size(), 2u);
  EXPECT_TRUE(CheckPlatform({"linux", "amd64", ""}, config->platform).ok());
  const absl::Status wrong = CheckPlatform({"linux", "arm64", ""}, config->platform);
  EXPECT_EQ(wrong.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(wrong.message(), "the image is for linux/amd64 and not for linux/arm64");
}

TEST(ImageConfigTest, RejectsAConfigWithoutRootfs) {
  EXPECT_FALSE(ParseImageConfig("{}").ok());
  EXPECT_FALSE(ParseImageConfig(R"({"rootfs":{"type":"layers","diff_ids":["sha256:1"]}})").ok());
}

TEST(DigestTest, ChainIdsFollowTheSpecification) {
  const std::string first = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  const std::string second = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  const std::string third = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
  EXPECT_EQ(ChainId("", first), first);
  const std::string chain = ChainId(first, second);
  EXPECT_EQ(chain, "a893da35bd22286079f2f3931516d3423eb9b4945f2379e0f8a501ec3d665dd6");
  EXPECT_EQ(ChainId(chain, third),
            "016ce548fd7421a4003a36dcbcd148c0d76503e2bbe8bd52b5af6d1a3e4dda12");
}

TEST(DigestTest, VerifiesBothAlgorithms) {
  EXPECT_TRUE(VerifyDigest("abc", base::StrCat("sha256:", Sha256Hex("abc"))).ok());
  EXPECT_EQ(VerifyDigest("abd", base::StrCat("sha256:", Sha256Hex("abc"))).code(),
            absl::StatusCode::kDataLoss);
  EXPECT_TRUE(VerifyDigest("abc",
                           "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                           "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")
                  .ok());
  EXPECT_FALSE(CheckDigest("sha512:abc").ok());
  EXPECT_FALSE(CheckDigest(base::StrCat("sha256:", std::string(64, 'A'))).ok());
}

}  // namespace
}  // namespace imageservice::worker
