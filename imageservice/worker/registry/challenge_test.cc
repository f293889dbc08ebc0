#include "imageservice/worker/registry/challenge.h"

#include <gtest/gtest.h>

#include "imageservice/worker/registry/url.h"

namespace imageservice::worker {
namespace {

TEST(ChallengeTest, ReadsABearerChallenge) {
  const auto challenges = ParseChallenges(
      R"(Bearer realm="https://auth.io/token",service="reg.io",scope="repository:a/b:pull,push")");
  ASSERT_EQ(challenges.size(), 1u);
  EXPECT_EQ(challenges[0].scheme, "bearer");
  EXPECT_EQ(challenges[0].params.at("realm"), "https://auth.io/token");
  EXPECT_EQ(challenges[0].params.at("service"), "reg.io");
  EXPECT_EQ(challenges[0].params.at("scope"), "repository:a/b:pull,push");
}

TEST(ChallengeTest, ReadsSeveralChallengesInOneHeader) {
  const auto challenges =
      ParseChallenges(R"(Negotiate, BASIC Realm = "a b" , bearer realm=https://x/t,service=s)");
  ASSERT_EQ(challenges.size(), 3u);
  EXPECT_EQ(challenges[0].scheme, "negotiate");
  EXPECT_EQ(challenges[1].scheme, "basic");
  EXPECT_EQ(challenges[1].params.at("realm"), "a b");
  EXPECT_EQ(challenges[2].scheme, "bearer");
  EXPECT_EQ(challenges[2].params.at("realm"), "https://x/t");
}

TEST(ChallengeTest, UndoesBackslashesInQuotedValues) {
  const auto challenges = ParseChallenges(R"(Basic realm="say \"hi\" \\ there")");
  ASSERT_EQ(challenges.size(), 1u);
  EXPECT_EQ(challenges[0].params.at("realm"), R"(say "hi" \ there)");
}

TEST(ChallengeTest, SurvivesNonsense) {
  for (const char* text : {"", ",", "=", "\"", "a=\"", "a=\"\\", "Bearer realm", ",,, ;x= =,",
                           "Bearer =", "x=y", "\x01\xff"}) {
    ParseChallenges(text);
  }
  EXPECT_TRUE(ParseChallenges("realm=\"no scheme\"").empty());
}

TEST(TokenAnswerTest, TakesEitherNameOfTheToken) {
  EXPECT_EQ(ParseTokenAnswer(R"({"token":"abc"})")->token, "abc");
  EXPECT_EQ(ParseTokenAnswer(R"({"access_token":"def","expires_in":300})")->token, "def");
}

TEST(TokenAnswerTest, LivesAtLeastAMinute) {
  EXPECT_EQ(ParseTokenAnswer(R"({"token":"t"})")->lifetime_seconds, 60);
  EXPECT_EQ(ParseTokenAnswer(R"({"token":"t","expires_in":5})")->lifetime_seconds, 60);
  EXPECT_EQ(ParseTokenAnswer(R"({"token":"t","expires_in":-1})")->lifetime_seconds, 60);
  EXPECT_EQ(ParseTokenAnswer(R"({"token":"t","expires_in":900})")->lifetime_seconds, 900);
}

TEST(TokenAnswerTest, RejectsTokensThatWouldBreakAHeader) {
  EXPECT_FALSE(ParseTokenAnswer(R"({"token":"a\r\nX-Evil: 1"})").ok());
  EXPECT_FALSE(ParseTokenAnswer(R"({"token":""})").ok());
  EXPECT_FALSE(ParseTokenAnswer(R"({"token":7})").ok());
  EXPECT_FALSE(ParseTokenAnswer(R"({})").ok());
}

TEST(TokenAnswerTest, KnowsWhenItWasIssued) {
  EXPECT_EQ(ParseTokenAnswer(R"({"token":"t","issued_at":"2026-01-02T03:04:05Z"})")->issued_at,
            absl::FromUnixSeconds(1767323045));
  EXPECT_FALSE(ParseTokenAnswer(R"({"token":"t","issued_at":"yesterday"})")->issued_at.has_value());
  EXPECT_FALSE(ParseTokenAnswer(R"({"token":"t","issued_at":7})")->issued_at.has_value());
}

TEST(TokenAnswerTest, RejectsATokenOfAbsurdLength) {
  EXPECT_TRUE(ParseTokenAnswer("{\"token\":\"" + std::string(20'000, 't') + "\"}").ok());
  EXPECT_FALSE(ParseTokenAnswer("{\"token\":\"" + std::string(100'000, 't') + "\"}").ok());
}

TEST(TokenAnswerTest, DoesNotRepeatTheBodyInErrors) {
  const auto answer = ParseTokenAnswer("secret-token-in-a-broken-answer");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.status().message().find("secret"), absl::string_view::npos);
}

TEST(UrlTest, OriginsAreSchemeHostAndPort) {
  EXPECT_EQ(*UrlOrigin("https://h.io/v2/"), "https://h.io:443");
  EXPECT_EQ(*UrlOrigin("http://127.0.0.1:5000/x"), "http://127.0.0.1:5000");
  EXPECT_FALSE(UrlOrigin("file:///etc/passwd").ok());
  EXPECT_FALSE(UrlOrigin("").ok());
}

TEST(UrlTest, RedirectsMayBeRelativeAndLoseTheirUser) {
  EXPECT_EQ(*ResolveUrl("https://h/v2/a/blobs/x", "/elsewhere?q=1"), "https://h/elsewhere?q=1");
  EXPECT_EQ(*ResolveUrl("https://h/v2/a", "https://u:p@other/x"), "https://other/x");
}

TEST(UrlTest, PrintableUrlsHoldNoSecrets) {
  EXPECT_EQ(PrintableUrl("https://user:pw@h:1/path?X-Signature=abc#f"), "https://h:1/path");
  EXPECT_EQ(PrintableUrl("http://h/\n"), "http://h/?");
}

}  // namespace
}  // namespace imageservice::worker
