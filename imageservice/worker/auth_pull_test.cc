// The real crisp-pull and those who want to know who it is: Basic, Bearer, token servers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "imageservice/worker/test_pull_fixture.h"

namespace imageservice::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class BearerPullTest : public ServerPullTest {
 protected:
  // A registry that wants the token "t0ken" and a token server that gives it.
  void ServeWithTokens() {
    token_server_ = std::make_unique<TestServer>([](const TestRequest&) {
      return TestResponse{.body = R"({"token":"t0ken","expires_in":300})"};
    });
    Serve([this](const TestRequest& request) -> std::optional<TestResponse> {
      const auto header = request.headers.find("authorization");
      if (header != request.headers.end() && header->second == "Bearer t0ken") return std::nullopt;
      return TestResponse{
          .status = 401,
          .headers = {"WWW-Authenticate: Bearer realm=\"" + token_server_->url() +
                      "/token\",service=\"reg.test\",scope=\"repository:app:pull\""}};
    });
  }
  std::unique_ptr<TestServer> token_server_;
};

TEST_F(BearerPullTest, FetchesATokenOnceAndReportsIt) {
  ServeWithTokens();
  const PullOutcome outcome = Pull();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(outcome.tokens.size(), 1u);
  EXPECT_EQ(outcome.tokens[0].token, "t0ken");
  EXPECT_GT(outcome.tokens[0].expires_at, absl::ToUnixSeconds(absl::Now()) + 100);
  const auto asked = token_server_->requests();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].method, "GET");
  EXPECT_EQ(asked[0].target, "/token?service=reg.test&scope=repository%3Aapp%3Apull");
  EXPECT_FALSE(asked[0].headers.contains("authorization"));
}

TEST_F(BearerPullTest, GivesTheTokenServerUserAndPassword) {
  ServeWithTokens();
  PullRequest request = Request();
  request.endpoints[0].credentials = {"user", "p4ss", "", ""};
  ASSERT_TRUE(Pull(request).status.ok());
  const TestRequest asked = token_server_->requests().at(0);
  EXPECT_THAT(asked.target, HasSubstr("account=user"));
  EXPECT_EQ(asked.headers.at("authorization"), "Basic " + absl::Base64Escape("user:p4ss"));
  for (const TestRequest& seen : server_->requests()) {
    if (seen.headers.contains("authorization")) {
      EXPECT_EQ(seen.headers.at("authorization"), "Bearer t0ken");
    }
  }
}

TEST_F(BearerPullTest, ExchangesAnIdentityToken) {
  ServeWithTokens();
  PullRequest request = Request();
  request.endpoints[0].credentials = {"", "", "identity/1", ""};
  ASSERT_TRUE(Pull(request).status.ok());
  const TestRequest asked = token_server_->requests().at(0);
  EXPECT_EQ(asked.method, "POST");
  EXPECT_THAT(asked.body, HasSubstr("grant_type=refresh_token"));
  EXPECT_THAT(asked.body, HasSubstr("refresh_token=identity%2F1"));
}

TEST_F(BearerPullTest, UsesACachedTokenOrARegistryTokenAsItIs) {
  ServeWithTokens();
  PullRequest request = Request();
  request.endpoints[0].bearer_token = "t0ken";
  EXPECT_TRUE(Pull(request).status.ok());
  request.endpoints[0].bearer_token = "";
  request.endpoints[0].credentials.registry_token = "t0ken";
  EXPECT_TRUE(PullAgain(request).status.ok());
  EXPECT_TRUE(token_server_->requests().empty());
}

TEST_F(BearerPullTest, ReplacesAnExpiredCachedToken) {
  ServeWithTokens();
  PullRequest request = Request();
  request.endpoints[0].bearer_token = "old";
  const PullOutcome outcome = Pull(request);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.tokens.size(), 1u);
}

TEST_F(BearerPullTest, GivesUpWhenAFreshTokenIsRefused) {
  TestServer token_server(
      [](const TestRequest&) { return TestResponse{.body = R"({"token":"useless-t0ken"})"}; });
  Serve([&](const TestRequest&) -> std::optional<TestResponse> {
    return TestResponse{
        .status = 401,
        .headers = {"WWW-Authenticate: Bearer realm=\"" + token_server.url() + "/t\""},
        .body = R"({"errors":[{"code":"DENIED","message":"go away"}]})"};
  });
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(Message(outcome), HasSubstr("DENIED: go away"));
  EXPECT_THAT(Message(outcome), Not(HasSubstr("useless")));
  EXPECT_EQ(token_server.requests().size(), 1u);
}

// What a token server answers, and what becomes of the pull.
class TokenServerTest : public ServerPullTest {
 protected:
  // The registry wants "Bearer t0ken"; `answer` is the token server.
  void ServeTokens(const TestServer::Handler& answer) {
    token_server_ = std::make_unique<TestServer>(answer);
    Serve([this](const TestRequest& request) -> std::optional<TestResponse> {
      if (request.header("authorization") == "Bearer t0ken") return std::nullopt;
      return TestResponse{.status = 401,
                          .headers = {"WWW-Authenticate: Bearer realm=\"" + token_server_->url() +
                                      "/token\",service=\"reg.test\""}};
    });
  }
  PullRequest WithPassword() {
    PullRequest request = Request();
    request.endpoints[0].credentials = {"user", "hunter2-secret", "", ""};
    return request;
  }
  static TestResponse Token() { return {.body = R"({"token":"t0ken","expires_in":300})"}; }
  std::unique_ptr<TestServer> token_server_;
};

TEST_F(TokenServerTest, AnswersThatAreNoTokenAreUnauthenticated) {
  const std::string bodies[] = {
      "<html>hunter2-secret</html>",
      R"({"token":"a\r\nX-Evil: 1"})",
      R"({"token":""})",
      R"([])",
      "{\"token\":\"" + std::string(80'000, 'x') + "\"}",
      std::string(2 << 20, ' '),
  };
  for (const std::string& body : bodies) {
    ServeTokens([&](const TestRequest&) { return TestResponse{.body = body}; });
    const PullOutcome outcome = PullAgain(WithPassword());
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated) << body.substr(0, 50);
    EXPECT_THAT(Message(outcome), HasSubstr("token server " + token_server_->url() + "/token"));
    EXPECT_THAT(Message(outcome), Not(HasSubstr("hunter2")));
  }
}

TEST_F(TokenServerTest, IsAskedAgainWhenItIsBusy) {
  std::atomic<int> asked = 0;
  ServeTokens([&](const TestRequest&) {
    const int number = ++asked;
    if (number == 1) return TestResponse{.status = 429, .headers = {"Retry-After: 0"}};
    if (number == 2) return TestResponse{.status = 503, .headers = {"Retry-After: 0"}};
    return Token();
  });
  ExpectImage(Pull(WithPassword()));
  EXPECT_EQ(asked, 3);
}

TEST_F(TokenServerTest, ThatIsDownIsUnavailableAndNamed) {
  ServeTokens([&](const TestRequest&) {
    return TestResponse{.status = 503, .headers = {"Retry-After: 0"}};
  });
  const PullOutcome outcome = Pull(WithPassword());
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(outcome),
              HasSubstr("token server " + token_server_->url() + "/token: HTTP 503"));
}

TEST_F(TokenServerTest, ThatRefusesThePasswordIsUnauthenticated) {
  ServeTokens([&](const TestRequest& request) {
    return TestResponse{.status = 401, .body = request.header("authorization")};
  });
  const PullOutcome outcome = Pull(WithPassword());
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(Message(outcome), HasSubstr("/token: HTTP 401"));
}

TEST_F(TokenServerTest, ThatKnowsNoPostGetsTheIdentityTokenAsAPassword) {
  for (const int status : {404, 405, 401, 400}) {
    ServeTokens([&](const TestRequest& request) {
      return request.method == "POST" ? TestResponse{.status = status} : Token();
    });
    PullRequest request = Request();
    request.endpoints[0].credentials = {"", "", "identity-t0p", ""};
    const PullOutcome outcome = PullAgain(request);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    const auto asked = token_server_->requests();
    ASSERT_EQ(asked.size(), 2u);
    EXPECT_EQ(asked[1].header("authorization"),
              "Basic " + absl::Base64Escape("<token>:identity-t0p"));
  }
}

TEST_F(TokenServerTest, ATokenThatExpiresDuringThePullIsRenewed) {
  // The registry takes each token for two requests only.
  std::atomic<int> tokens = 0;
  std::atomic<int> uses = 0;
  token_server_ = std::make_unique<TestServer>([&](const TestRequest&) {
    uses = 0;
    return TestResponse{.body = "{\"token\":\"t" + std::to_string(++tokens) + "\"}"};
  });
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (request.header("authorization") == "Bearer t" + std::to_string(tokens) && ++uses <= 2) {
      return std::nullopt;
    }
    return TestResponse{
        .status = 401,
        .headers = {"WWW-Authenticate: Bearer realm=\"" + token_server_->url() +
                    "/token\",error=\"insufficient_scope\",scope=\"repository:app:pull,x\""}};
  });
  PullRequest request = WithPassword();
  request.limits.max_parallel_layers = 1;
  const PullOutcome outcome = Pull(request);
  ExpectImage(outcome);
  EXPECT_GE(tokens, 2);
  EXPECT_THAT(token_server_->requests().back().target,
              HasSubstr("scope=repository%3Aapp%3Apull%2Cx"));
}

TEST_F(TokenServerTest, WithoutHttpsGetsNoCredentialsOfARegistryWithHttps) {
  const TestCertificate certificate = MakeTestCertificate();
  token_server_ = std::make_unique<TestServer>([](const TestRequest&) { return Token(); });
  Serve(
      [&](const TestRequest&) {
        return TestResponse{
            .status = 401,
            .headers = {"WWW-Authenticate: Bearer realm=\"" + token_server_->url() + "/token\""}};
      },
      TestServer::Tls{certificate});
  PullRequest request = WithPassword();
  request.endpoints[0].ca_pem = certificate.certificate;
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated) << outcome.status;
  EXPECT_THAT(Message(outcome), HasSubstr("not reached by https"));
  EXPECT_TRUE(token_server_->requests().empty());
}

// --- challenges
// -----------------------------------------------------------------------------------

TEST_F(TokenServerTest, IsPreferredToBasicAmongSeveralChallenges) {
  token_server_ = std::make_unique<TestServer>([](const TestRequest&) { return Token(); });
  Serve([this](const TestRequest& request) -> std::optional<TestResponse> {
    if (request.header("authorization") == "Bearer t0ken") return std::nullopt;
    return TestResponse{
        .status = 401,
        .headers = {"WWW-Authenticate: Negotiate", "WWW-Authenticate: Basic realm=x",
                    "WWW-Authenticate: Bearer realm=\"" + token_server_->url() +
                        "/token\", Digest realm=\"y\""}};
  });
  ExpectImage(Pull(WithPassword()));
  for (const TestRequest& seen : server_->requests()) {
    EXPECT_THAT(seen.header("authorization"), Not(HasSubstr("Basic")));
  }
}

TEST_F(ServerPullTest, A401WithoutEndIsAskedTwiceAndNoMore) {
  Serve([](const TestRequest&) {
    return TestResponse{.status = 401, .headers = {"WWW-Authenticate: Basic realm=x"}};
  });
  PullRequest request = Request();
  request.endpoints[0].credentials = {"user", "wr0ng-password", "", ""};
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(server_->requests().size(), 2u);
}

TEST_F(ServerPullTest, AChallengeOfNoKnownKindIsUnauthenticated) {
  Serve([](const TestRequest&) {
    return TestResponse{.status = 401,
                        .headers = {"WWW-Authenticate: Kerberos", "WWW-Authenticate: Bearer"}};
  });
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(Message(outcome), HasSubstr("neither Bearer nor Basic"));
}

TEST_F(ServerPullTest, ARegistryThatRepeatsSecretsInItsAnswersDoesNotSpreadThem) {
  Serve([](const TestRequest& request) {
    return TestResponse{.status = 403,
                        .body = R"({"errors":[{"code":"DENIED","message":"not with )" +
                                request.header("authorization") + " and " +
                                request.header("x-key") + R"("}]})"};
  });
  PullRequest request = Request();
  request.endpoints[0].credentials.registry_token = "registry-t0ken";
  request.endpoints[0].headers = {"X-Key: api-k3y"};
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(Message(outcome), HasSubstr("DENIED: not with Bearer *** and ***"));
}

TEST_F(ServerPullTest, ASecretThatAnAnswerRepeatsIsNotSpreadByHalves) {
  // The end of what is quoted lies within the secret.
  Serve([](const TestRequest& request) {
    return TestResponse{.status = 403,
                        .body = R"({"errors":[{"code":"DENIED","message":")" +
                                std::string(180, 'x') + request.header("authorization") +
                                R"("}]})"};
  });
  PullRequest request = Request();
  request.endpoints[0].credentials.registry_token = "begin-of-it-" + std::string(300, 't');
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(Message(outcome), HasSubstr("xxxBearer ***"));
  EXPECT_THAT(Message(outcome), Not(HasSubstr("begin-of-it")));
}

TEST_F(ServerPullTest, AWarningThatRepeatsALongSecretDoesNotSpreadItsBegin) {
  Serve([this](const TestRequest& request) -> std::optional<TestResponse> {
    TestResponse response = Honest(request);
    response.headers.push_back("Warning: " + std::string(180, 'x') +
                               request.header("authorization"));
    return response;
  });
  PullRequest request = Request();
  request.endpoints[0].credentials.registry_token = "begin-of-it-" + std::string(300, 't');
  const PullOutcome outcome = Pull(request);
  ASSERT_FALSE(outcome.warnings.empty());
  for (const std::string& warning : outcome.warnings) {
    EXPECT_THAT(warning, HasSubstr("xxxBearer ***"));
    EXPECT_THAT(warning, Not(HasSubstr("begin-of-it")));
  }
}

// A store that somebody else fills, say, asks who we are, and names a token server of its own.
TEST_F(ServerPullTest, WhereARedirectLeadsNobodyLearnsThePassword) {
  TestServer thief([](const TestRequest&) { return TestResponse{.body = R"({"token":"t0ken"})"}; });
  TestServer store([&](const TestRequest&) {
    return TestResponse{.status = 401,
                        .headers = {"WWW-Authenticate: Bearer realm=\"" + thief.url() + "/t\"",
                                    "WWW-Authenticate: Basic realm=x"}};
  });
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (request.header("authorization").empty()) {
      return TestResponse{.status = 401, .headers = {"WWW-Authenticate: Basic realm=x"}};
    }
    if (!IsBlob(request)) return std::nullopt;
    return TestResponse{.status = 307, .headers = {"Location: " + store.url() + request.target}};
  });
  PullRequest request = Request();
  request.endpoints[0].credentials = {"user", "p4ssword", "", ""};
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated) << outcome.status;
  EXPECT_FALSE(store.requests().empty());
  EXPECT_TRUE(thief.requests().empty());
}

TEST_F(ServerPullTest, ARegistryTokenThatIsRefusedIsNotReplaced) {
  Serve([](const TestRequest&) {
    return TestResponse{.status = 401, .headers = {"WWW-Authenticate: Basic realm=x"}};
  });
  PullRequest request = Request();
  request.endpoints[0].credentials.registry_token = "registry-t0ken";
  const PullOutcome outcome = Pull(request);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(server_->requests().size(), 1u);
}

TEST_F(ServerPullTest, ConfiguredHeadersGoToTheirOwnOriginOnly) {
  TestServer store([this](const TestRequest& request) { return Honest(request); });
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (request.header("x-key") != "api-k3y" || request.header("accept").empty()) {
      return TestResponse{.status = 400};
    }
    if (!IsBlob(request)) return std::nullopt;
    return TestResponse{.status = 307, .headers = {"Location: " + store.url() + request.target}};
  });
  PullRequest request = Request();
  request.endpoints[0].headers = {"X-Key: api-k3y", "broken", "Evil: a\r\nInjected: b"};
  request.endpoints[0].credentials.registry_token = "registry-t0ken";
  const PullOutcome outcome = daemon_.Pull(request);
  ExpectImage(outcome);
  EXPECT_EQ(store.requests().size(), 4u);
  for (const TestRequest& seen : store.requests()) {
    EXPECT_FALSE(seen.headers.contains("x-key"));
    EXPECT_FALSE(seen.headers.contains("authorization"));
  }
  for (const TestRequest& seen : server_->requests()) {
    EXPECT_FALSE(seen.headers.contains("evil"));
    EXPECT_FALSE(seen.headers.contains("injected"));
  }
}

}  // namespace
}  // namespace imageservice::worker
