// The real crisp-pull against servers made for the occasion: redirects and damage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/mutex.h"
#include "base/strings.h"
#include "imageservice/worker/test_pull_fixture.h"

namespace imageservice::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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

TEST_F(ServerPullTest, WaitsAsLongAsTheServerAsks) {
  for (const bool is_date : {false, true}) {
    std::atomic<int> refusals = 0;
    std::atomic<int64_t> refused_at = 0;
    std::atomic<int64_t> asked_again_at = 0;
    Serve([&](const TestRequest&) -> std::optional<TestResponse> {
      if (refusals++ == 0) {
        refused_at = absl::ToUnixMillis(absl::Now());
        const absl::Time later = absl::Now() + absl::Seconds(3);
        const std::string date(
            absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", later, absl::UTCTimeZone()));
        return TestResponse{.status = 429, .headers = {"Retry-After: " + (is_date ? date : "2")}};
      }
      if (asked_again_at == 0) asked_again_at = absl::ToUnixMillis(absl::Now());
      return std::nullopt;
    });
    const PullOutcome outcome = PullAgain(Request());
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_GE(asked_again_at - refused_at, 1990) << is_date;
  }
}

TEST_F(ServerPullTest, ABurstOfErrorsIsSatOut) {
  base::Mutex mutex;
  std::map<std::string, int> asked;  // Layers are asked for at the same time.
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    const base::MutexLock lock(&mutex);
    const int number = asked[request.target]++ % 3;
    if (number == 2) return std::nullopt;
    return TestResponse{.status = 500 + number * 2, .headers = {"Retry-After: 0"}};
  });
  const PullOutcome outcome = Pull();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(ServerPullTest, ADocumentCutMidwayIsAskedForAgain) {
  std::map<std::string, int> asked;
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    TestResponse response = Honest(request);
    if (response.body[0] == '{' && asked[request.target]++ == 0) {
      response.cut_after = static_cast<int64_t>(response.body.size() / 2);
    }
    return response;
  });
  const PullOutcome outcome = Pull();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(asked.size(), 2u);
}

TEST_F(ServerPullTest, WrongLengthsAreNoContent) {
  struct Case {
    int64_t difference;
    bool is_chunked;
    bool is_cut;
  };
  // A length too long, one too short, chunks that stop, chunks with too little.
  for (const auto& [difference, is_chunked, is_cut] :
       {Case{5, false, false}, Case{-5, false, false}, Case{0, true, true},
        Case{-5, true, false}}) {
    Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
      if (!IsBigBlob(request)) return std::nullopt;
      TestResponse response = Honest(request);
      const auto size = static_cast<int64_t>(response.body.size());
      response.is_chunked = is_chunked;
      if (is_chunked && difference != 0) {
        response.body.resize(static_cast<size_t>(size + difference));
      } else {
        response.content_length = size + difference;
      }
      if (is_cut) response.cut_after = 100;
      return response;
    });
    const PullOutcome outcome = PullAgain(Request());
    EXPECT_TRUE(absl::IsDataLoss(outcome.status) || absl::IsUnavailable(outcome.status))
        << outcome.status << difference << is_chunked;
    EXPECT_FALSE(outcome.layers.contains(1));
  }
}

TEST_F(ServerPullTest, ChunksAreAsGoodAsALength) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    TestResponse response = Honest(request);
    response.is_chunked = true;
    return response;
  });
  ExpectImage(Pull());
}

TEST_F(ServerPullTest, FollowsRedirectsWithoutTakingSecretsAlong) {
  TestServer store([this](const TestRequest& request) {
    if (request.headers.contains("authorization")) return TestResponse{.status = 400};
    return IsBigBlob(request) ? TestResponse{.status = 410} : Honest(request);
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
  EXPECT_THAT(Message(outcome), HasSubstr("HTTP 410"));
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

}  // namespace
}  // namespace imageservice::worker
