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

using ::testing::AllOf;
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
  EXPECT_EQ(MatchRegistryPrefix("localhost:5000/x", "localhost"), 9u);
  EXPECT_EQ(MatchRegistryPrefix("localhosts/x", "localhost"), 0u);
  EXPECT_EQ(MatchRegistryPrefix("localhost:5000/x", "localhost:5000"), 14u);
  EXPECT_EQ(MatchRegistryPrefix("a.b.io:5000/x", "*.b.io"), 6u);
  EXPECT_EQ(MatchRegistryPrefix("a.b.io:5000/x", "*.b.io:5000"), 11u);
  EXPECT_EQ(MatchRegistryPrefix("a.b.io/x", "*.b.io:5000"), 0u);
  EXPECT_EQ(MatchRegistryPrefix("a.b.io.b.io/x", "*.b.io"), 11u);
  EXPECT_EQ(MatchRegistryPrefix("b.io/x", "*.b.io"), 0u);
  EXPECT_EQ(MatchRegistryPrefix("ab.io/x", "*.b.io"), 0u);
  // A host's letters have no case: what is said of a registry holds for all its spellings.
  EXPECT_EQ(MatchRegistryPrefix("A.io/x:T", "a.iO/x"), 6u);
  EXPECT_EQ(MatchRegistryPrefix("A.B.io/x", "*.b.IO"), 6u);
  EXPECT_EQ(MatchRegistryPrefix("a.io/x:T", "a.io/x:t"), 0u);
}

TEST(RegistriesConfigTest, TheDaemonsOwnListMakesHostsInsecure) {
  const RegistriesConfig config;
  EXPECT_THAT(Endpoints(config, "localhost:5000/r:t", {"localhost:5000"}),
              ElementsAre("localhost:5000/r:t!"));
  EXPECT_THAT(Endpoints(config, "localhost:5001/r:t", {"localhost:5000"}),
              ElementsAre("localhost:5001/r:t"));
  EXPECT_THAT(Endpoints(config, "localhost:5000/r:t", {"localhost"}),
              ElementsAre("localhost:5000/r:t"));
  EXPECT_THAT(Endpoints(config, "a.lan:5000/r:t", {"*.lan"}), ElementsAre("a.lan:5000/r:t!"));
  EXPECT_THAT(Endpoints(config, "a.lan/in/r:t", {"a.lan/in"}), ElementsAre("a.lan/in/r:t!"));
  EXPECT_THAT(Endpoints(config, "a.lan/out/r:t", {"a.lan/in"}), ElementsAre("a.lan/out/r:t"));
}

TEST(RegistriesConfigTest, AWildcardsLocationReplacesTheHostAndKeepsThePort) {
  const RegistriesConfig config = Config(R"(
    [[registry]]
    prefix = "*.old.io"
    location = "new.io/x"
    [[registry.mirror]]
    location = "[::1]:5000"
  )");
  EXPECT_THAT(Endpoints(config, "a.old.io/r:t"), ElementsAre("[::1]:5000/r:t~", "new.io/x/r:t"));
  EXPECT_THAT(Endpoints(Config("[[registry]]\nprefix = \"*.old.io\"\nlocation = \"new.io\""),
                        "a.old.io:5000/r:t"),
              ElementsAre("new.io:5000/r:t"));
  EXPECT_THAT(
      Endpoints(Config("[[registry]]\nprefix = \"*.old.io\"\ninsecure = true"), "a.old.io/r:t"),
      ElementsAre("a.old.io/r:t!"));
}

TEST(RegistriesConfigTest, APrefixMayBeOneTagOrDigest) {
  const RegistriesConfig config = Config(base::StrCat(R"(
    [[registry]]
    prefix = "a.io/r:old"
    location = "a.io/r:new"
    [[registry]]
    prefix = "a.io/r@)",
                                                      kDigest, "\"\nblocked = true"));
  EXPECT_THAT(Endpoints(config, "a.io/r:old"), ElementsAre("a.io/r:new"));
  EXPECT_THAT(Endpoints(config, "a.io/r:older"), ElementsAre("a.io/r:older"));
  EXPECT_THAT(Endpoints(config, "a.io/r@" + kDigest), ElementsAre(HasSubstr("is blocked")));
}

TEST(RegistriesConfigTest, WithTagAndDigestTheDigestCounts) {
  const RegistriesConfig config = Config(R"(
    [[registry]]
    location = "a.io"
    mirror-by-digest-only = true
    [[registry.mirror]]
    location = "m.io"
  )");
  EXPECT_THAT(Endpoints(config, "a.io/r:t@" + kDigest),
              ElementsAre("m.io/r@" + kDigest + "~", "a.io/r@" + kDigest));
}

TEST(RegistriesConfigTest, BlockedSaysWhichFileBlocks) {
  EXPECT_THAT(Endpoints(Config("# first\n[[registry]]\nlocation = \"a.io\"\nblocked = true\n"
                               "[[registry.mirror]]\nlocation = \"m.io\""),
                        "a.io/r:t"),
              ElementsAre("a.io/r:t: registry \"a.io\" is blocked by test.conf:2"));
}

TEST(RegistriesConfigTest, ShortNamesAreLookedForInTheSearchRegistries) {
  const RegistriesConfig config =
      Config("unqualified-search-registries = [\"quay.io\", \"docker.io\"]");
  EXPECT_THAT(Candidates(config, "app:1"), ElementsAre("quay.io/app:1", "docker.io/library/app:1"));
  EXPECT_THAT(Candidates(config, "q.io/app:1"), ElementsAre("q.io/app:1"));
  EXPECT_THAT(Candidates(config, "team/app@" + kDigest),
              ElementsAre("quay.io/team/app@" + kDigest, "docker.io/team/app@" + kDigest));
}

TEST(RegistriesConfigTest, AShortNameThatNothingDecidesSaysWhatToWriteWhere) {
  const std::string search = "unqualified-search-registries = [\"quay.io\", \"docker.io\"]\n";
  EXPECT_THAT(
      Candidates(Config(search + "short-name-mode = \"enforcing\""), "app:1").front(),
      AllOf(HasSubstr("\"app:1\" names no registry"), HasSubstr("(quay.io, docker.io)"),
            HasSubstr("\"quay.io/app:1\""), HasSubstr("[aliases] \"app\" = \"quay.io/app\""),
            HasSubstr("000-shortnames.conf"), HasSubstr("short_name_mode = \"disabled\"")));
  for (const std::string mode : {"permissive", "disabled"}) {
    EXPECT_EQ(Candidates(Config(search + "short-name-mode = \"" + mode + "\""), "app:1").size(),
              2u);
  }
  EXPECT_THAT(Candidates(Config("short-name-mode = \"enforcing\"\n"
                                "unqualified-search-registries = [\"quay.io\"]"),
                         "app"),
              ElementsAre("quay.io/app:latest"));
  EXPECT_THAT(Candidates(Config("unqualified-search-registries = []"), "app").front(),
              AllOf(HasSubstr("test.conf:1"), HasSubstr("\"docker.io/library/app:latest\"")));
}

TEST(RegistriesConfigTest, WhatIsHereIsFoundInEveryMode) {
  const auto local = [](const RegistriesConfig& config, const std::string& text) {
    std::vector<std::string> texts;
    const std::vector<Reference> names = config.LocalCandidates(text).value();
    for (const Reference& name : names) {
      texts.push_back(name.str());
    }
    return texts;
  };
  const RegistriesConfig config = Config(R"(
    unqualified-search-registries = ["quay.io", "docker.io"]
    short-name-mode = "enforcing"
    [aliases]
    "team/app" = "reg.io/app"
  )");
  EXPECT_THAT(local(config, "app:1"),
              ElementsAre("localhost/app:1", "quay.io/app:1", "docker.io/library/app:1"));
  EXPECT_THAT(local(config, "team/app:1"), ElementsAre("reg.io/app:1"));
  EXPECT_THAT(local(config, "q.io/app"), ElementsAre("q.io/app:latest"));
  EXPECT_THAT(local(RegistriesConfig(), "app"),
              ElementsAre("localhost/app:latest", "docker.io/library/app:latest"));
  EXPECT_THAT(local(Config("unqualified-search-registries = []"), "app"),
              ElementsAre("localhost/app:latest"));
}

TEST(RegistriesConfigTest, TheDaemonsModeAndTheAliasCacheCountMost) {
  testing::TempDirectory directory;
  const auto write = [&](const std::string& name, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(directory / name, text, 0644, base::Durability::kVolatile).ok());
  };
  write("registries.conf",
        "unqualified-search-registries = [\"a.io\", \"b.io\"]\n"
        "short-name-mode = \"enforcing\"\n[aliases]\n\"app\" = \"conf.io/app\"\n");
  write("cache.conf", "[aliases]\n\"app\" = \"cache.io/app\"\n");
  RegistriesConfig::Files files = {.paths = {directory / "registries.conf"},
                                   .alias_cache = directory / "cache.conf",
                                   .short_name_mode = ShortNameMode::kDisabled};
  EXPECT_THAT(Candidates(*RegistriesConfig::Load(files), "app"),
              ElementsAre("cache.io/app:latest"));
  EXPECT_THAT(Candidates(*RegistriesConfig::Load(files), "other"),
              ElementsAre("a.io/other:latest", "b.io/other:latest"));
  write("cache.conf", "[[registry]]\nlocation = \"a.io\"\nblocked = true\n");
  EXPECT_THAT(std::string(RegistriesConfig::Load(files).status().message()),
              HasSubstr("cache.conf:1: unknown key \"registry\": only [aliases] belong here"));
  files.alias_cache = directory / "missing.conf";
  EXPECT_THAT(Candidates(*RegistriesConfig::Load(files), "app"), ElementsAre("conf.io/app:latest"));
}

TEST(RegistriesConfigTest, Version1IsUnderstood) {
  const RegistriesConfig config = Config(R"(
    [registries.search]
    registries = ["quay.io"]
    [registries.insecure]
    registries = ["lan.io:5000"]
    [registries.block]
    registries = ["bad.io"]
  )");
  EXPECT_THAT(Candidates(config, "app"), ElementsAre("quay.io/app:latest"));
  EXPECT_THAT(Endpoints(config, "lan.io:5000/r:t"), ElementsAre("lan.io:5000/r:t!"));
  EXPECT_THAT(Endpoints(config, "bad.io/r:t"), ElementsAre(HasSubstr("is blocked")));
  EXPECT_THAT(Refusal("[registries.search]\nregistries = []\n[[registry]]\nlocation = \"a.io\""),
              HasSubstr("version 1"));
  EXPECT_THAT(Refusal("[registries.block]\nregistries = [\"https://a.io\"]"),
              HasSubstr("no registry"));
}

TEST(RegistriesConfigTest, CredentialHelpersAndUnknownKeysAreKept) {
  EXPECT_THAT(RegistriesConfig().credential_helpers(), ElementsAre("containers-auth.json"));
  const RegistriesConfig config = Config(R"(
    credential-helpers = ["ecr-login", "containers-auth.json"]
    additional-layer-store-auth-helper = "x"
    colour = "blue"
    [[registry]]
    location = "a.io"
    speed = 3
    [[registry.mirror]]
    location = "m.io"
    pass_credentials = true
    color = "red"
  )");
  EXPECT_THAT(config.credential_helpers(), ElementsAre("ecr-login", "containers-auth.json"));
  EXPECT_THAT(config.warnings(), ElementsAre("test.conf:11: unknown key \"color\"",
                                             "test.conf:7: unknown key \"speed\"",
                                             "test.conf:4: unknown key \"colour\""));
  const auto endpoints = config.Endpoints(Reference::Parse("a.io/r").value(), {}).value();
  EXPECT_TRUE(endpoints[0].pass_credentials);
  EXPECT_FALSE(endpoints[1].pass_credentials);
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
      {.paths = {directory / "registries.conf", directory / "conf.d", directory / "missing"}});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(Endpoints(*config, "a.io/r:t"), ElementsAre("a.io/r:t"));
}

TEST(RegistriesConfigTest, WhatMakesNoSenseIsRefusedWithItsFile) {
  EXPECT_THAT(Refusal("[[registry]\n"), HasSubstr("test.conf:1: "));
  EXPECT_THAT(Refusal("[[registry]]\ninsecure = true"), HasSubstr("neither prefix nor location"));
  EXPECT_THAT(Refusal("[[registry]]\nlocation = \"https://a.io\""), HasSubstr("scheme"));
  EXPECT_THAT(Refusal("[[registry]]\nlocation = 7"),
              HasSubstr("test.conf:2: location is an integer, want a string"));
  EXPECT_THAT(Refusal("[[registry]]\nlocation = \"a.io\"\ninsecure = \"yes\""),
              HasSubstr("test.conf:3: insecure is a string, want true or false"));
  EXPECT_THAT(Refusal("[[registry]]\nprefix = \"*bad\""), HasSubstr("wildcard"));
  EXPECT_THAT(Refusal("registry = 3"), HasSubstr("want a list of tables"));
  EXPECT_THAT(Refusal("[[registry]]\nprefix = \"a.io\"\nlocation = \"plain/x\""),
              HasSubstr("test.conf:3: location \"plain/x\" does not begin with a registry's host"));
  EXPECT_THAT(Refusal("credential-helpers = [\"../x\"]"), HasSubstr("test.conf:1: "));
  EXPECT_THAT(Refusal("[aliases]\n\"app\" = \"reg.io/app:1\""), HasSubstr("test.conf:2: alias"));
  EXPECT_THAT(Refusal("[aliases]\n\"app\" = \"team/app\""), HasSubstr("test.conf:2: alias"));
  EXPECT_THAT(Refusal("[aliases]\n\"q.io/app\" = \"reg.io/app\""), HasSubstr("test.conf:2: alias"));
  EXPECT_THAT(Refusal("[aliases]\napp = 3"), HasSubstr("test.conf:2: app is an integer"));
  EXPECT_THAT(Refusal("unqualified-search-registries = [\"nodomain\"]"), HasSubstr("no registry"));
  EXPECT_THAT(Refusal("short-name-mode = \"never\""), HasSubstr("unknown"));
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
  EXPECT_THAT(Refusal("\xef\xbb\x82 = 1"), HasSubstr("test.conf:1: "));
}

TEST(RegistriesConfigTest, ARefusedFileLeavesNothingBehind) {
  RegistriesConfig config = Config("[[registry]]\nlocation = \"a.io\"\ninsecure = true");
  EXPECT_FALSE(
      config.Merge("unqualified-search-registries = [\"q.io\"]\nregistry = 3", "bad.conf").ok());
  EXPECT_THAT(Candidates(config, "app"), ElementsAre("docker.io/library/app:latest"));
}

}  // namespace
}  // namespace imageservice
