// The real crisp-pull and transfers that break, stall or crawl: resumed, elsewhere, in ranges, or
// later.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>

#include "imageservice/worker/test_pull_fixture.h"

namespace imageservice::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class StallPullTest : public ServerPullTest {
 protected:
  // Ranges of the big blob that were asked for, in order; "" for the whole.
  std::vector<std::string> Ranges(TestServer* server) {
    std::vector<std::string> ranges;
    for (const TestRequest& request : server->requests()) {
      if (IsBigBlob(request)) ranges.push_back(request.header("range"));
    }
    return ranges;
  }
  size_t BigSize() const {
    size_t size = 0;
    for (const auto& [digest, blob] : layout_.blobs()) size = std::max(size, blob.size());
    return size;
  }
};

// --- resumed
// --------------------------------------------------------------------------------------

TEST_F(StallPullTest, ABrokenTransferIsResumedWhereItBroke) {
  std::mt19937 random(testing::UnitTest::GetInstance()->random_seed());
  const auto cut = static_cast<int64_t>(random() % BigSize());
  for (const bool is_reset : {false, true}) {
    std::atomic<int> cuts = 0;
    Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
      if (!IsBigBlob(request) || cuts++ > 0) return std::nullopt;
      TestResponse response = Honest(request);
      response.cut_after = cut;
      response.is_reset = is_reset;
      return response;
    });
    TestDaemon again;
    PullRequest request = Request();
    request.staging_directory = again.staging();
    const PullOutcome outcome = again.Pull(request);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status << " cut after " << cut;
    EXPECT_EQ(base::ReadFile(again.LayerPath(outcome, 1) + "/big").value_or(""), BigText());
    EXPECT_EQ(outcome.progress.bytes_done, outcome.progress.bytes_total);
    const std::vector<std::string> ranges = Ranges(server_.get());
    ASSERT_EQ(ranges.size(), 2u) << "cut after " << cut;
    if (!is_reset && cut > 0) {  // What was in flight when an RST comes may be lost.
      EXPECT_EQ(ranges[1], "bytes=" + std::to_string(cut) + "-");
    }
  }
}

TEST_F(StallPullTest, AServerWithoutRangesIsReadFromTheBeginningAgain) {
  std::atomic<int> cuts = 0;
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    TestRequest whole = request;
    whole.headers.erase("range");
    TestResponse response = Honest(whole);
    if (cuts++ == 0) response.cut_after = 1'000'000;
    return response;
  });
  ExpectImage(Pull());
  EXPECT_EQ(Ranges(server_.get()).size(), 2u);
}

TEST_F(StallPullTest, ARangeThatWasNotAskedForIsNotTaken) {
  for (const std::string field : {"bytes 0-9/10", "bytes 5", "", "bytes 500000-600000/99999999"}) {
    std::atomic<int> cuts = 0;
    Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
      if (!IsBigBlob(request)) return std::nullopt;
      TestResponse response = Honest(request);
      if (cuts++ == 0) {
        response.cut_after = 500'000;
      } else {
        response.headers = {"Content-Range: " + field};
      }
      return response;
    });
    const PullOutcome outcome = PullAgain(Request());
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDataLoss) << field << outcome.status;
    EXPECT_EQ(cuts, 2) << "a lie is not asked for again";
  }
}

TEST_F(StallPullTest, AnImpossibleRangeSendsToTheNextEndpoint) {
  std::atomic<int> cuts = 0;
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    if (cuts++ > 0) return TestResponse{.status = 416};
    TestResponse response = Honest(request);
    response.cut_after = 500'000;
    return response;
  });
  const auto other = MakeServer(Nothing());
  PullRequest request = Request();
  AddEndpoint(&request, *other);
  ExpectImage(Pull(request));
  EXPECT_EQ(Ranges(other.get()), std::vector<std::string>({"bytes=500000-"}));
}

TEST_F(StallPullTest, ATransferThatAlwaysBreaksIsGivenUp) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    TestResponse response = Honest(request);
    response.cut_after = 10;
    return response;
  });
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Ranges(server_.get()).size(), 4u);
  EXPECT_THAT(Message(outcome), HasSubstr(server_->url() + "/v2: "));
}

// --- elsewhere
// ------------------------------------------------------------------------------------

TEST_F(StallPullTest, AStalledTransferGoesOnAtTheNextEndpointAtTheSameOffset) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    const TestResponse whole = Honest(request);
    return TestResponse{.instead = [whole](TestConnection& connection) {
      connection.Send("HTTP/1.1 200 X\r\nContent-Length: " + std::to_string(whole.body.size()) +
                      "\r\n\r\n" + whole.body.substr(0, 700'000));
      connection.Hang();
    }};
  });
  const auto other = MakeServer(Nothing());
  PullRequest request = HastyRequest();
  AddEndpoint(&request, *other);
  ExpectImage(Pull(request));
  EXPECT_EQ(Ranges(server_.get()).size(), 1u);
  EXPECT_EQ(Ranges(other.get()), std::vector<std::string>({"bytes=700000-"}));
}

TEST_F(StallPullTest, ATrickleIsAStall) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    TestResponse response = Honest(request);
    response.bytes_per_second = 50;
    return response;
  });
  const PullOutcome outcome = Pull(HastyRequest());
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(outcome), HasSubstr("too slow"));
}

TEST_F(StallPullTest, SlowButSteadyIsNoStall) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    TestResponse response = Honest(request);
    response.bytes_per_second = 500'000;  // Some three seconds, three times the stall timeout.
    return response;
  });
  ExpectImage(Pull(HastyRequest()));
}

TEST_F(StallPullTest, WhatTwoEndpointsPutTogetherWronglyComesAgainFromOne) {
  // The first serves damaged bytes and stops; the rest from the second is right.
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    TestResponse response = Honest(request);
    response.body[1000] ^= 1;
    response.cut_after = 600'000;
    return response;
  });
  const auto other = MakeServer(Nothing());
  PullRequest request = Request();
  AddEndpoint(&request, *other);
  const PullOutcome outcome = Pull(request);
  if (!outcome.stalls.empty()) GTEST_FAIL() << outcome.stalls[0];
  ExpectImage(outcome);
}

TEST_F(StallPullTest, OneThatLacksTheLayerIsPassedOverWhenItComesAgainFromOne) {
  // What the second and the third put together is wrong; the second alone is right.
  std::atomic<int> asked = 0;
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    return IsBigBlob(request) ? std::optional(TestResponse{.status = 404}) : std::nullopt;
  });
  const auto breaking = MakeServer([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request) || asked++ > 1) return std::nullopt;
    TestResponse response = Honest(request);
    response.cut_after = 100'000;
    return response;
  });
  const auto wrong = MakeServer([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (!IsBigBlob(request)) return std::nullopt;
    TestResponse response = Honest(request);
    response.body.back() ^= 1;
    return response;
  });
  PullRequest request = Request();
  AddEndpoint(&request, *breaking);
  AddEndpoint(&request, *wrong);
  const PullOutcome outcome = Pull(request);
  EXPECT_TRUE(outcome.stalls.empty());
  ExpectImage(outcome);
  EXPECT_FALSE(Ranges(wrong.get()).empty());
}

// --- later
// ----------------------------------------------------------------------------------------

TEST_F(StallPullTest, AnOutageOfAllEndpointsIsToldAndThePullGoesOnWhereItStopped) {
  std::atomic<bool> is_down = false;
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (is_down) return TestResponse{.status = 503, .headers = {"Retry-After: 0"}};
    if (!IsBigBlob(request) || request.headers.contains("range")) return std::nullopt;
    TestResponse response = Honest(request);
    response.cut_after = 1'200'000;
    is_down = true;
    return response;
  });
  PullRequest request = Request();
  request.limits.max_parallel_layers = 1;
  daemon_.on_stalled = [&](const Stalled& stalled) {
    EXPECT_EQ(stalled.status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(base::ToStd(stalled.status.message())),
                HasSubstr("pull test.io/app:1: layer sha256:"));
    EXPECT_THAT(std::string(base::ToStd(stalled.status.message())),
                HasSubstr(server_->url() + "/v2: GET /app/blobs/"));
    is_down = false;
    return true;
  };
  const PullOutcome outcome = Pull(request);
  ExpectImage(outcome);
  EXPECT_EQ(outcome.stalls.size(), 1u);
  EXPECT_EQ(Ranges(server_.get()).front(), "");
  EXPECT_EQ(Ranges(server_.get()).back(), "bytes=1200000-");
}

TEST_F(StallPullTest, OneOutageOfSeveralLayersIsToldOnce) {
  std::atomic<bool> is_down = true;
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    if (is_down && IsBlob(request) && Honest(request).body[0] != '{') {
      return TestResponse{.status = 503, .headers = {"Retry-After: 0"}};
    }
    return std::nullopt;
  });
  daemon_.on_stalled = [&](const Stalled&) {
    is_down = false;
    return true;
  };
  const PullOutcome outcome = Pull();
  ExpectImage(outcome);
  EXPECT_EQ(outcome.stalls.size(), 1u);
}

TEST_F(StallPullTest, ALayerThatDoesNotExistIsAnErrorAndNoOutage) {
  Serve([&](const TestRequest& request) -> std::optional<TestResponse> {
    return IsBigBlob(request) ? std::optional(TestResponse{.status = 404}) : std::nullopt;
  });
  const PullOutcome outcome = Pull();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(outcome.stalls.empty());
}

// --- ranges
// ---------------------------------------------------------------------------------------

// A layer of 48 MiB from a server that gives each connection 6 MiB a second.
class RangePullTest : public StallPullTest {
 protected:
  static constexpr size_t kBytes = 48 << 20;
  static constexpr int64_t kRate = 6 << 20;

  void SetUp() override {
    StallPullTest::SetUp();
    if (IsSkipped()) return;
    std::string content(kBytes, '\0');
    std::mt19937_64 random(1);
    for (size_t i = 0; i + 8 <= content.size(); i += 8) {
      const uint64_t value = random();
      memcpy(content.data() + i, &value, 8);
    }
    root_ = layout_.AddImage({PlainLayer({{.name = "f", .content = content}})}, "linux", "amd64");
    content_ = std::move(content);
  }
  // `twist` may change an answer about the large blob.
  void ServeSlowly(const std::function<void(const TestRequest&, TestResponse*)>& twist) {
    Serve([=, this](const TestRequest& request) -> std::optional<TestResponse> {
      if (!IsBigBlob(request)) return std::nullopt;
      TestResponse response = Honest(request);
      response.bytes_per_second = kRate;
      twist(request, &response);
      return response;
    });
  }
  // Pulls with so many ranges and checks the file; how long it took.
  absl::Duration Time(int ranges) {
    TestDaemon again;
    PullRequest request = Request();
    request.staging_directory = again.staging();
    request.limits.max_parallel_ranges = ranges;
    const absl::Time begin = absl::Now();
    const PullOutcome outcome = again.Pull(request);
    const absl::Duration taken = absl::Now() - begin;
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_TRUE(base::ReadFile(again.LayerPath(outcome, 0) + "/f", kBytes).value_or("") ==
                content_);
    EXPECT_EQ(outcome.progress.bytes_done, outcome.progress.bytes_total);
    return taken;
  }
  static void KeepAsItIs(const TestRequest&, TestResponse*) {}

  std::string content_;
};

TEST_F(RangePullTest, SeveralRangesAreTwiceAsFastWhereEachConnectionIsThrottled) {
  ServeSlowly(&RangePullTest::KeepAsItIs);
  const absl::Duration one = Time(1);
  EXPECT_EQ(Ranges(server_.get()), std::vector<std::string>({""}));
  const absl::Duration four = Time(4);
  EXPECT_GT(Ranges(server_.get()).size(), 5u);
  EXPECT_GT(one, four * 2) << four;
  GTEST_LOG_(INFO) << "one transfer " << one << ", ranges " << four;
}

TEST_F(RangePullTest, AServerWithoutRangesIsReadInOne) {
  ServeSlowly([&](const TestRequest& request, TestResponse* response) {
    if (request.headers.contains("range")) {
      TestRequest whole = request;
      whole.headers.erase("range");
      *response = Honest(whole);
    }
    response->bytes_per_second = 3 * kRate / 2;
  });
  Time(4);
  EXPECT_EQ(Ranges(server_.get()).size(), 2u) << "the whole, and one try";
}

TEST_F(RangePullTest, RangesThatLieAreFoundOutAndTheWholeIsFetched) {
  ServeSlowly([](const TestRequest& request, TestResponse* response) {
    response->bytes_per_second = 2 * kRate;
    if (request.headers.contains("range")) response->body.back() ^= 1;
  });
  Time(4);
  EXPECT_EQ(Ranges(server_.get()).back(), "") << "at last without";
}

TEST_F(RangePullTest, RangesThatBreakGoOnAsOneTransfer) {
  std::atomic<int> asked = 0;
  ServeSlowly([&](const TestRequest& request, TestResponse* response) {
    response->bytes_per_second = 2 * kRate;
    if (request.headers.contains("range") && ++asked == 3) response->cut_after = 1'000'000;
  });
  Time(4);
  EXPECT_TRUE(Ranges(server_.get()).back().ends_with("-"));
}

}  // namespace
}  // namespace imageservice::worker
