// The real crisp-pull against servers made for the occasion: redirects, tokens, damage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "imageservice/worker/test_daemon.h"
#include "imageservice/worker/test_registry.h"

namespace imageservice::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A layout served by a handler that may interfere.
class ServerPullTest : public ::testing::Test {
 protected:
  using Interfere = std::function<std::optional<TestResponse>(const TestRequest&)>;

  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "SKIP: root";
    }
    root_ = AddSampleImage(&layout_);
  }

  // Starts the server; `interfere` is asked first.
  void Serve(const Interfere& interfere) {
    server_ = std::make_unique<TestServer>([this, interfere](const TestRequest& request) {
      if (std::optional<TestResponse> response = interfere(request)) return *response;
      return ServeLayout(layout_, root_, request).value_or(TestResponse{.status = 404});
    });
  }
  PullRequest Request() { return daemon_.Request(server_->url(), "app", "1"); }
  PullOutcome Pull() { return daemon_.Pull(Request()); }
  static Interfere Nothing() {
    return [](const TestRequest&) { return std::nullopt; };
  }
  static bool IsBlob(const TestRequest& request) {
    return request.target.find("/blobs/") != std::string::npos;
  }

  TestDaemon daemon_;
  TempDirectory layout_directory_;
  TestLayout layout_{layout_directory_.path()};
  TestLayout::Blob root_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(ServerPullTest, PullsFromAPlainServer) {
  Serve(Nothing());
  const PullOutcome outcome = Pull();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(ServerPullTest, ResolvesNamesInsideTheSandbox) {
  Serve(Nothing());
  std::string url = server_->url();
  url.replace(url.find("127.0.0.1"), 9, "localhost");
  const PullOutcome outcome = daemon_.Pull(daemon_.Request(url, "app", "1"));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;

  const PullOutcome unknown =
      TestDaemon().Pull(daemon_.Request("http://no-such-host.invalid", "app", "1"));
  EXPECT_EQ(unknown.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(unknown), HasSubstr("no-such-host.invalid"));
}

TEST_F(ServerPullTest, RejectsAManifestWithAWrongDigest) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (IsBlob(request)) return std::nullopt;
    TestResponse response = *ServeLayout(layout_, root_, request);
    response.body += " ";
    return response;
  });
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss) << outcome.status;
}

TEST_F(ServerPullTest, RejectsABlobWithAWrongDigest) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    std::optional<TestResponse> response = ServeLayout(layout_, root_, request);
    if (IsBlob(request) && response.has_value() && response->body.size() > 100'000) {
      response->body[response->body.size() / 2] ^= 1;
      return response;
    }
    return std::nullopt;
  });
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss) << outcome.status;
  EXPECT_FALSE(outcome.layers.contains(1));
  EXPECT_THAT(Message(outcome), HasSubstr(server_->url()));
}

TEST_F(ServerPullTest, TakesADamagedBlobFromTheNextEndpoint) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    std::optional<TestResponse> response = ServeLayout(layout_, root_, request);
    if (IsBlob(request) && response.has_value() && response->body.size() > 100'000) {
      response->body.back() ^= 1;
    }
    return response;
  });
  TestServer good([this](const TestRequest& request) {
    return ServeLayout(layout_, root_, request).value_or(TestResponse{.status = 404});
  });
  PullRequest request = Request();
  request.endpoints.push_back(request.endpoints[0]);
  request.endpoints[1].base_url = good.url() + "/v2";
  const PullOutcome outcome = daemon_.Pull(request);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.progress.bytes_done, outcome.progress.bytes_total);
}

TEST_F(ServerPullTest, ATruncatedBlobIsTriedAgain) {
  std::atomic<int> cuts = 0;
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    std::optional<TestResponse> response = ServeLayout(layout_, root_, request);
    if (IsBlob(request) && response.has_value() && response->body.size() > 100'000 &&
        cuts.fetch_add(1) == 0) {
      response->content_length = static_cast<int64_t>(response->body.size());
      response->body.resize(response->body.size() / 2);
      return response;
    }
    return std::nullopt;
  });
  const PullOutcome outcome = Pull();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(cuts.load(), 2);
  EXPECT_EQ(base::ReadFile(daemon_.LayerPath(outcome, 1) + "/big").value_or(""), BigText());
}

TEST_F(ServerPullTest, ABlobOfAnotherSizeIsRejected) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    std::optional<TestResponse> response = ServeLayout(layout_, root_, request);
    if (IsBlob(request) && response.has_value() && response->body.size() > 100'000) {
      response->body += "more";
      return response;
    }
    return std::nullopt;
  });
  EXPECT_EQ(Pull().status.code(), absl::StatusCode::kDataLoss);
}

TEST_F(ServerPullTest, AHostileArchiveFailsItsLayerAndNamesTheEntry) {
  root_ = layout_.AddImage({GzipLayer({{.name = "../../evil", .content = "x"}})}, "linux", "amd64");
  Serve(Nothing());
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(outcome), HasSubstr("entry \"../../evil\""));
}

TEST_F(ServerPullTest, AWrongDiffIdFailsItsLayer) {
  TestLayout::Layer layer = GzipLayer({{.name = "f", .content = "x"}});
  layer.archive = "something else";
  root_ = layout_.AddImage({layer}, "linux", "amd64");
  Serve(Nothing());
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument) << outcome.status;
  EXPECT_TRUE(outcome.layers.empty());
}

TEST_F(ServerPullTest, BytesAfterTheArchivesEndCountForTheDigest) {
  const std::string archive = Tar({{.name = "f", .content = "x"}}) + std::string(300'000, '\0');
  root_ = layout_.AddImage(
      {{archive, Gzip(archive), "application/vnd.oci.image.layer.v1.tar+gzip"}}, "linux", "amd64");
  Serve(Nothing());
  const PullOutcome outcome = Pull();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(ServerPullTest, LayersAreLimitedInSize) {
  Serve(Nothing());
  PullRequest request = Request();
  request.limits.max_layer_bytes = 1 << 20;
  EXPECT_EQ(daemon_.Pull(request).status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(ServerPullTest, AnImageOfAnotherPlatformIsRefused) {
  root_ = AddSampleImage(&layout_, "s390x");
  Serve(Nothing());
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(outcome), HasSubstr("linux/s390x and not for linux/amd64"));
}

TEST_F(ServerPullTest, RetriesWhenTheServerIsBusy) {
  std::atomic<int> refusals = 0;
  Serve([&](const TestRequest&) -> std::optional<TestResponse> {
    const int n = refusals.fetch_add(1);
    if (n == 0) return TestResponse{.status = 503};
    if (n == 1) return TestResponse{.status = 429, .headers = {"Retry-After: 0"}};
    return std::nullopt;
  });
  const PullOutcome outcome = Pull();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(ServerPullTest, FollowsRedirectsWithoutTakingSecretsAlong) {
  TestServer store([this](const TestRequest& request) {
    if (request.headers.contains("authorization")) return TestResponse{.status = 400};
    return ServeLayout(layout_, root_, request).value_or(TestResponse{.status = 404});
  });
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!request.headers.contains("authorization")) {
      return TestResponse{.status = 401, .headers = {"WWW-Authenticate: Basic realm=\"x\""}};
    }
    if (!IsBlob(request)) return std::nullopt;
    return TestResponse{.status = 307,
                        .headers = {"Location: " + store.url() + request.target + "?signature=s"}};
  });
  PullRequest request = Request();
  request.endpoints[0].credentials = {"user", "pass", "", ""};
  const PullOutcome outcome = daemon_.Pull(request);
  EXPECT_FALSE(outcome.status.ok()) << "the store gets a query it does not know";
  EXPECT_THAT(Message(outcome), Not(HasSubstr("signature")));
  ASSERT_FALSE(store.requests().empty());
  for (const TestRequest& seen : store.requests()) {
    EXPECT_FALSE(seen.headers.contains("authorization"));
  }
}

TEST_F(ServerPullTest, StopsAtTheTenthRedirect) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    return TestResponse{.status = 302, .headers = {"Location: " + request.target}};
  });
  EXPECT_THAT(Message(Pull()), HasSubstr("more than 10 redirects"));
  EXPECT_EQ(server_->requests().size(), 11u);
}

// --- Bearer tokens
// --------------------------------------------------------------------------------

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
  request.endpoints[0].credentials = {"user", "pass", "", ""};
  ASSERT_TRUE(daemon_.Pull(request).status.ok());
  const TestRequest asked = token_server_->requests().at(0);
  EXPECT_THAT(asked.target, HasSubstr("account=user"));
  EXPECT_EQ(asked.headers.at("authorization"), "Basic " + absl::Base64Escape("user:pass"));
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
  ASSERT_TRUE(daemon_.Pull(request).status.ok());
  const TestRequest asked = token_server_->requests().at(0);
  EXPECT_EQ(asked.method, "POST");
  EXPECT_THAT(asked.body, HasSubstr("grant_type=refresh_token"));
  EXPECT_THAT(asked.body, HasSubstr("refresh_token=identity%2F1"));
}

TEST_F(BearerPullTest, UsesACachedTokenOrARegistryTokenAsItIs) {
  ServeWithTokens();
  PullRequest request = Request();
  request.endpoints[0].bearer_token = "t0ken";
  EXPECT_TRUE(daemon_.Pull(request).status.ok());
  TestDaemon second;
  request.endpoints[0].bearer_token = "";
  request.endpoints[0].credentials.registry_token = "t0ken";
  request.staging_directory = second.staging();
  EXPECT_TRUE(second.Pull(request).status.ok());
  EXPECT_TRUE(token_server_->requests().empty());
}

TEST_F(BearerPullTest, ReplacesAnExpiredCachedToken) {
  ServeWithTokens();
  PullRequest request = Request();
  request.endpoints[0].bearer_token = "old";
  const PullOutcome outcome = daemon_.Pull(request);
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

}  // namespace
}  // namespace imageservice::worker
