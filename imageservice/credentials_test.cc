#include "imageservice/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Endpoint At(const std::string& name, bool mirror = false) {
  Endpoint endpoint;
  endpoint.reference = Reference::Parse(name).value();
  endpoint.mirror = mirror;
  return endpoint;
}

TEST(CredentialsTest, EveryKindOfAuthConfigIsUnderstood) {
  cri::AuthConfig auth;
  EXPECT_TRUE(IsAnonymous(*FromAuthConfig(auth)));
  auth.set_registry_token("bearer");
  EXPECT_EQ(FromAuthConfig(auth)->registry_token, "bearer");
  auth.set_auth("dXNlcjpwYXNzOndvcmQ=");  // user:pass:word
  EXPECT_EQ(FromAuthConfig(auth)->username, "user");
  EXPECT_EQ(FromAuthConfig(auth)->password, "pass:word");
  auth.set_identity_token("refresh");
  EXPECT_EQ(FromAuthConfig(auth)->identity_token, "refresh");
  auth.set_username("u");
  auth.set_password("p");
  EXPECT_EQ(FromAuthConfig(auth)->username, "u");
  EXPECT_EQ(FromAuthConfig(auth)->password, "p");
}

TEST(CredentialsTest, AMalformedAuthIsRefusedWithoutShowingIt) {
  cri::AuthConfig auth;
  for (const std::string text : {"!!secret!!", "c2VjcmV0"}) {
    auth.set_auth(text);
    const absl::Status status = FromAuthConfig(auth).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr(text)));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret")));
  }
}

TEST(CredentialsTest, TrailingNulsOfThePasswordAreCut) {
  cri::AuthConfig auth;
  auth.set_auth("dTpwAAA=");  // "u:p\0\0"
  EXPECT_EQ(FromAuthConfig(auth)->password, "p");
}

TEST(CredentialsTest, CredentialsGoToTheirRegistryOnly) {
  const Reference reference = Reference::Parse("q.io/a").value();
  cri::AuthConfig auth;
  EXPECT_TRUE(MayShow(auth, reference, At("q.io/a")));
  EXPECT_TRUE(MayShow(auth, reference, At("moved.io/a")));
  EXPECT_FALSE(MayShow(auth, reference, At("m.io/a", true)));
  auth.set_server_address("https://m.io/v1/");
  EXPECT_FALSE(MayShow(auth, reference, At("q.io/a")));
  EXPECT_TRUE(MayShow(auth, reference, At("m.io/a", true)));
  auth.set_server_address("https://index.docker.io/v1/");
  EXPECT_TRUE(MayShow(auth, Reference::Parse("busybox").value(), At("busybox")));
}

TEST(AuthFileTest, TheLongestKeyCounts) {
  const auto file = AuthFile::Parse(R"({"auths": {
      "q.io": {"auth": "aG9zdDpw"},
      "q.io/team": {"auth": "dGVhbTpw"},
      "q.io/empty": {},
      "https://index.docker.io/v1/": {"auth": "aHViOnA="},
      "t.io": {"auth": "dTpw", "identitytoken": "refresh"}}})");
  ASSERT_TRUE(file.ok()) << file.status();
  const auto user = [&](const std::string& name) {
    return file->Find(Reference::Parse(name).value()).username;
  };
  EXPECT_EQ(user("q.io/app"), "host");
  EXPECT_EQ(user("q.io/team/app"), "team");
  EXPECT_EQ(user("q.io/teams"), "host");
  EXPECT_EQ(user("q.io/empty/app"), "host");
  EXPECT_EQ(user("busybox"), "hub");
  EXPECT_EQ(user("other.io/x"), "");
  EXPECT_EQ(file->Find(Reference::Parse("t.io/x").value()).identity_token, "refresh");
}

TEST(AuthFileTest, WhatMakesNoSenseIsRefusedWithoutShowingIt) {
  for (const std::string text :
       {R"({"auths": {"q.io": {"auth": "secret!"}}})", R"({"auths": ["secret"]})", "secret"}) {
    const absl::Status status = AuthFile::Parse(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret")));
  }
  EXPECT_TRUE(AuthFile::Parse("{}").ok());
}

TEST(AuthFileTest, AMissingFileIsAnEmptyOne) {
  const testing::TempDirectory directory;
  EXPECT_TRUE(AuthFile::Load(directory / "none.json").ok());
}

}  // namespace
}  // namespace imageservice
