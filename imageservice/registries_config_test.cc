#include "imageservice/registries_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kDigest = "sha256:" + std::string(64, 'a');

RegistriesConfig Config(std::string_view text) {
  RegistriesConfig config;
  const absl::Status status = config.Merge(text, "test.conf");
  EXPECT_TRUE(status.ok()) << status;
  return config;
}

std::string Refusal(std::string_view text) {
  RegistriesConfig config;
  const absl::Status status = config.Merge(text, "test.conf");
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
  return std::string(status.message());
}

// "name" for each endpoint, with "!" for insecure and "~" for a mirror.
std::vector<std::string> Endpoints(const RegistriesConfig& config, const std::string& name,
                                   const std::vector<std::string>& insecure = {}) {
  const auto endpoints = config.Endpoints(Reference::Parse(name).value(), insecure);
  if (!endpoints.ok()) {
    return {std::string(endpoints.status().message())};
  }
  std::vector<std::string> texts;
  for (const Endpoint& endpoint : *endpoints) {
    texts.push_back(base::StrCat(endpoint.reference.str(), endpoint.insecure ? "!" : "",
                                 endpoint.mirror ? "~" : ""));
  }
  return texts;
}

std::vector<std::string> Candidates(const RegistriesConfig& config, const std::string& text) {
  const auto candidates = config.Candidates(text);
  if (!candidates.ok()) {
    return {std::string(candidates.status().message())};
  }
  std::vector<std::string> texts;
  for (const Reference& candidate : *candidates) {
    texts.push_back(candidate.str());
  }
  return texts;
}

TEST(RegistriesConfigTest, WithoutConfigurationNamesMeanWhatTheySay) {
  const RegistriesConfig config;
  EXPECT_THAT(Endpoints(config, "quay.io/a:1"), ElementsAre("quay.io/a:1"));
  EXPECT_THAT(Candidates(config, "busybox"), ElementsAre("docker.io/library/busybox:latest"));
  EXPECT_EQ(config.Endpoints(Reference::Parse("busybox").value(), {})->front().host(),
            "registry-1.docker.io");
}

TEST(RegistriesConfigTest, MirrorsComeFirstAndReplaceThePrefix) {
  const RegistriesConfig config = Config(R"(
    [[registry]]
    prefix = "a.io/x"
    location = "b.io/y"
    [[registry.mirror]]
    location = "m.io:5000/z"
    insecure = true
    [[registry.mirror]]
    location = "n.io"
  )");
  EXPECT_THAT(Endpoints(config, "a.io/x/r:t"),
              ElementsAre("m.io:5000/z/r:t!~", "n.io/r:t~", "b.io/y/r:t"));
  EXPECT_THAT(Endpoints(config, "a.io/xx/r:t"), ElementsAre("a.io/xx/r:t"));
}

TEST(RegistriesConfigTest, MirrorsMayBeForDigestsOrTagsOnly) {
  const RegistriesConfig config = Config(R"(
    [[registry]]
    location = "a.io"
    [[registry.mirror]]
    location = "digest.io"
    pull-from-mirror = "digest-only"
    [[registry.mirror]]
    location = "tag.io"
    pull-from-mirror = "tag-only"
    [[registry]]
    location = "c.io"
    mirror-by-digest-only = true
    [[registry.mirror]]
    location = "digest.io"
  )");
  EXPECT_THAT(Endpoints(config, "a.io/r:t"), ElementsAre("tag.io/r:t~", "a.io/r:t"));
  EXPECT_THAT(Endpoints(config, "a.io/r@" + kDigest),
              ElementsAre("digest.io/r@" + kDigest + "~", "a.io/r@" + kDigest));
  EXPECT_THAT(Endpoints(config, "c.io/r:t"), ElementsAre("c.io/r:t"));
}

TEST(RegistriesConfigTest, TheLongestPrefixCounts) {
  const RegistriesConfig config = Config(R"(
    [[registry]]
    prefix = "a.io"
    insecure = true
    [[registry]]
    prefix = "a.io/team"
    location = "team.io"
    [[registry]]
    prefix = "*.example.com"
    blocked = true
    [[registry]]
    prefix = "good.example.com/app"
    location = "moved.io/app"
  )");
  EXPECT_THAT(Endpoints(config, "a.io/r:t"), ElementsAre("a.io/r:t!"));
  EXPECT_THAT(Endpoints(config, "a.io/team/r:t"), ElementsAre("team.io/r:t"));
  EXPECT_THAT(Endpoints(config, "bad.example.com/r:t"), ElementsAre(HasSubstr("is blocked")));
  EXPECT_THAT(Endpoints(config, "example.com/r:t"), ElementsAre("example.com/r:t"));
  EXPECT_THAT(Endpoints(config, "good.example.com/app:t"), ElementsAre("moved.io/app:t"));
  EXPECT_TRUE(absl::IsPermissionDenied(
      config.Endpoints(Reference::Parse("x.example.com/r").value(), {}).status()));
}

TEST(RegistriesConfigTest, APrefixEndsAtABorder) {
  EXPECT_EQ(MatchRegistryPrefix("a.io/x:t", "a.io/x"), 6u);
  EXPECT_EQ(MatchRegistryPrefix("a.io/x:t", "a.io/x:t"), 8u);
  EXPECT_EQ(MatchRegistryPrefix("a.io/x@sha256:0", "a.io/x"), 6u);
  EXPECT_EQ(MatchRegistryPrefix("a.io/xy:t", "a.io/x"), 0u);
  EXPECT_EQ(MatchRegistryPrefix("localhost:5000/x", "localhost"), 0u);
  EXPECT_EQ(MatchRegistryPrefix("localhost:5000/x", "localhost:5000"), 14u);
  EXPECT_EQ(MatchRegistryPrefix("a.b.io:5000/x", "*.b.io"), 11u);
  EXPECT_EQ(MatchRegistryPrefix("b.io/x", "*.b.io"), 0u);
  EXPECT_EQ(MatchRegistryPrefix("ab.io/x", "*.b.io"), 0u);
}

TEST(RegistriesConfigTest, TheDaemonsOwnListMakesHostsInsecure) {
  const RegistriesConfig config;
  EXPECT_THAT(Endpoints(config, "localhost:5000/r:t", {"localhost:5000"}),
              ElementsAre("localhost:5000/r:t!"));
  EXPECT_THAT(Endpoints(config, "localhost:5001/r:t", {"localhost:5000"}),
              ElementsAre("localhost:5001/r:t"));
}

TEST(RegistriesConfigTest, ShortNamesAreLookedForInTheSearchRegistries) {
  const RegistriesConfig config =
      Config("unqualified-search-registries = [\"quay.io\", \"docker.io\"]");
  EXPECT_THAT(Candidates(config, "app:1"), ElementsAre("quay.io/app:1", "docker.io/library/app:1"));
  EXPECT_THAT(Candidates(config, "q.io/app:1"), ElementsAre("q.io/app:1"));
}

TEST(RegistriesConfigTest, AliasesDecideForShortNames) {
  RegistriesConfig config = Config(R"(
    unqualified-search-registries = ["quay.io", "docker.io"]
    short-name-mode = "enforcing"
    [aliases]
    "app" = "reg.io/team/app"
    "old" = "reg.io/old"
  )");
  EXPECT_THAT(Candidates(config, "app:1"), ElementsAre("reg.io/team/app:1"));
  EXPECT_THAT(Candidates(config, "app@" + kDigest), ElementsAre("reg.io/team/app@" + kDigest));
  EXPECT_THAT(Candidates(config, "other"), ElementsAre(HasSubstr("enforcing")));
  ASSERT_TRUE(config.Merge("[aliases]\n\"old\" = \"\"", "later.conf").ok());
  EXPECT_THAT(Candidates(config, "old"), ElementsAre(HasSubstr("enforcing")));
  EXPECT_THAT(Candidates(config, "app"), ElementsAre("reg.io/team/app:latest"));
}

TEST(RegistriesConfigTest, DropInsReplaceTablesOfTheSamePrefix) {
  testing::TempDirectory directory;
  const auto write = [&](const std::string& name, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(directory / name, text, 0644, base::Durability::kVolatile).ok());
  };
  write("registries.conf", "[[registry]]\nlocation = \"a.io\"\ninsecure = true\n");
  ASSERT_TRUE(base::MakeDirectories(directory / "conf.d").ok());
  write("conf.d/20.conf", "[[registry]]\nlocation = \"a.io\"\n");
  write("conf.d/10.conf", "[[registry]]\nlocation = \"a.io\"\nblocked = true\n");
  write("conf.d/30.txt", "not read");
  const auto config = RegistriesConfig::Load(
      {directory / "registries.conf", directory / "conf.d", directory / "missing"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(Endpoints(*config, "a.io/r:t"), ElementsAre("a.io/r:t"));
}

TEST(RegistriesConfigTest, WhatMakesNoSenseIsRefusedWithItsFile) {
  EXPECT_THAT(Refusal("[[registry]\n"), HasSubstr("test.conf: line 1"));
  EXPECT_THAT(Refusal("[[registry]]\ninsecure = true"), HasSubstr("neither prefix nor location"));
  EXPECT_THAT(Refusal("[[registry]]\nlocation = \"https://a.io\""), HasSubstr("scheme"));
  EXPECT_THAT(Refusal("[[registry]]\nlocation = 7"), HasSubstr("not a string"));
  EXPECT_THAT(Refusal("[[registry]]\nlocation = \"a.io\"\ninsecure = \"yes\""),
              HasSubstr("not true or false"));
  EXPECT_THAT(Refusal("[[registry]]\nprefix = \"*bad\""), HasSubstr("wildcard"));
  EXPECT_THAT(Refusal("registry = 3"), HasSubstr("not a list"));
  EXPECT_THAT(Refusal("unqualified-search-registries = [\"nodomain\"]"), HasSubstr("no registry"));
  EXPECT_THAT(Refusal("short-name-mode = \"never\""), HasSubstr("unknown"));
  EXPECT_THAT(Refusal("[registries.search]\nregistries = []"), HasSubstr("version 1"));
  EXPECT_THAT(Refusal("[[registry]]\nlocation = \"a.io\"\nmirror-by-digest-only = true\n"
                      "[[registry.mirror]]\nlocation = \"m.io\"\npull-from-mirror = \"all\""),
              HasSubstr("exclude each other"));
  EXPECT_THAT(Refusal("[[registry]]\nlocation = \"a.io\"\n[[registry]]\nprefix = \"b.io\"\n"
                      "location = \"a.io\"\nblocked = true"),
              HasSubstr("contradicting"));
}

TEST(RegistriesConfigTest, LettersOutsideAsciiAreForComments) {
  EXPECT_THAT(Endpoints(Config("# Überall\n[[registry]]\nlocation = \"a.io\"\ninsecure = true"),
                        "a.io/r:t"),
              ElementsAre("a.io/r:t!"));
  EXPECT_THAT(Refusal("\xef\xbb\x82 = 1"), HasSubstr("line 1"));
}

TEST(RegistriesConfigTest, ARefusedFileLeavesNothingBehind) {
  RegistriesConfig config = Config("[[registry]]\nlocation = \"a.io\"\ninsecure = true");
  EXPECT_FALSE(
      config.Merge("unqualified-search-registries = [\"q.io\"]\nregistry = 3", "bad.conf").ok());
  EXPECT_THAT(Candidates(config, "app"), ElementsAre("docker.io/library/app:latest"));
}

}  // namespace
}  // namespace imageservice
