#include "imageservice/auth_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/files.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string User(const AuthFile& file, const std::string& registry, const std::string& repository) {
  const auto found = file.Find(registry, repository);
  if (!found.ok()) {
    return std::string(found.status().message());
  }
  return *found ? (*found)->username : "none";
}

TEST(AuthFileTest, TheLongestKeyCounts) {
  const auto file = AuthFile::Parse(R"({"auths": {
      "q.io": {"auth": "aG9zdDpw"},
      "q.io/team": {"auth": "dGVhbTpw"},
      "q.io/team/deep/app": {"auth": "YXBwOnA="},
      "q.io/empty": {},
      "Upper.io:443": {"auth": "dXBwZXI6cA=="},
      "https://old.io/v1/": {"auth": "b2xkOnA="},
      "https://index.docker.io/v1/": {"auth": "aHViOnA="},
      "t.io": {"auth": "dTpw", "identitytoken": "refresh"}}})");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(User(*file, "q.io", "app"), "host");
  EXPECT_EQ(User(*file, "q.io", "team/app"), "team");
  EXPECT_EQ(User(*file, "q.io", "team/deep/app"), "app");
  EXPECT_EQ(User(*file, "q.io", "team/deep/apps"), "team");
  EXPECT_EQ(User(*file, "q.io", "teams"), "host");
  EXPECT_EQ(User(*file, "q.io", "empty/app"), "host");
  EXPECT_EQ(User(*file, "q.io:5000", "app"), "none");
  EXPECT_EQ(User(*file, "upper.io", "x"), "upper");
  EXPECT_EQ(User(*file, "old.io", "x"), "old");
  EXPECT_EQ(User(*file, "docker.io", "library/busybox"), "hub");
  EXPECT_EQ(User(*file, "registry-1.docker.io", "library/busybox"), "hub");
  EXPECT_EQ(User(*file, "other.io", "x"), "none");
  const worker::Credentials token = **file->Find("t.io", "x");
  EXPECT_EQ(token.identity_token, "refresh");
  EXPECT_EQ(token.password, "");
}

TEST(AuthFileTest, ABadEntryConcernsOnlyItsOwnRegistry) {
  const auto file = AuthFile::Parse(
      R"({"auths": {"bad.io": {"auth": "c2VjcmV0"}, "odd.io": "secret", "q.io": {"auth": "dTpw"}}})");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(User(*file, "q.io", "a"), "u");
  EXPECT_EQ(User(*file, "bad.io", "a"), "the entry for bad.io makes no sense");
  EXPECT_EQ(User(*file, "odd.io", "a"), "the entry for odd.io makes no sense");
}

TEST(AuthFileTest, WhatMakesNoSenseIsRefusedWithoutShowingIt) {
  for (const std::string text :
       {R"({"auths": ["secret"]})", "secret", R"("secret")", R"({"auths": {}, "secret)",
        R"({"credHelpers": {"q.io": "/secret"}})", R"({"credHelpers": "secret"})",
        R"({"credsStore": "../secret"})", R"({"credsStore": ["secret"]})"}) {
    const absl::Status status = AuthFile::Parse(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret")));
  }
  EXPECT_TRUE(AuthFile::Parse("{}").ok());
}

TEST(AuthFileTest, HelpersAreThoseOfTheRegistryOrOfAll) {
  const auto file = AuthFile::Parse(
      R"({"credHelpers": {"gcr.io": "gcloud", "https://index.docker.io/v1/": "hub", "none.io": ""},
          "credsStore": "secretservice"})");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->Helper("gcr.io")->helper, "gcloud");
  EXPECT_EQ(file->Helper("gcr.io")->server, "gcr.io");
  EXPECT_EQ(file->Helper("docker.io")->helper, "hub");
  EXPECT_EQ(file->Helper("docker.io")->server, "https://index.docker.io/v1/");
  EXPECT_EQ(file->Helper("q.io")->helper, "secretservice");
  EXPECT_FALSE(file->Helper("none.io"));
  EXPECT_FALSE(AuthFile().Helper("q.io"));
  EXPECT_EQ(AuthFile::Parse(R"({"credsStore": "pass"})")->Helper("docker.io")->server,
            "https://index.docker.io/v1/");
}

TEST(AuthFileTest, TheOldFormIsTheMapAlone) {
  const auto file = AuthFile::Parse(R"({"https://q.io": {"auth": "dTpw", "email": "x"}})",
                                    AuthFile::Format::kDockercfg);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(User(*file, "q.io", "a"), "u");
}

TEST(AuthFileTest, AMissingFileIsNoFileAndABrokenOneIsNamed) {
  const testing::TempDirectory directory;
  const std::string path = directory / "auth.json";
  EXPECT_FALSE(AuthFile::Load(path, AuthFile::Format::kAuthJson).value());
  ASSERT_TRUE(base::ReplaceFile(path, "secret", 0600, base::Durability::kVolatile).ok());
  EXPECT_EQ(AuthFile::Load(path, AuthFile::Format::kAuthJson).status().message(),
            path + ": not a JSON object");
}

}  // namespace
}  // namespace imageservice
