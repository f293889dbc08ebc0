#include "imageservice/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace imageservice {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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
  const auto shown = [](const std::string& server_address, const std::string& image,
                        const std::string& host, PassCredentials pass = PassCredentials::kNo) {
    cri::AuthConfig auth;
    auth.set_server_address(server_address);
    return MayShow(auth, Reference::Parse(image).value(), host, pass);
  };
  // Without an address they are for the image's own registry.
  EXPECT_TRUE(shown("", "q.io/a", "q.io"));
  EXPECT_FALSE(shown("", "q.io/a", "moved.io"));
  EXPECT_FALSE(shown("", "q.io:5000/a", "q.io"));
  EXPECT_TRUE(shown("", "q.io/a", "m.io", PassCredentials::kYes));
  // With one they are for that host, whatever it is to the image.
  EXPECT_TRUE(shown("https://m.io/v1/", "q.io/a", "m.io"));
  EXPECT_FALSE(shown("https://m.io/v1/", "q.io/a", "q.io"));
  EXPECT_TRUE(shown("q.io", "q.io/a", "m.io", PassCredentials::kYes));
  EXPECT_FALSE(shown("other.io", "q.io/a", "m.io", PassCredentials::kYes));
  EXPECT_FALSE(shown("q.io.evil.io", "q.io/a", "q.io"));
  EXPECT_FALSE(shown("https://q.io@evil.io/", "q.io/a", "q.io"));
  // Docker Hub has several names, and hosts have no case and a usual port.
  EXPECT_TRUE(shown("https://index.docker.io/v1/", "busybox", "registry-1.docker.io"));
  EXPECT_TRUE(shown("Q.io:443", "q.io/a", "q.io"));
  EXPECT_FALSE(shown("http://q.io:443", "q.io/a", "q.io"));
}

}  // namespace
}  // namespace imageservice
