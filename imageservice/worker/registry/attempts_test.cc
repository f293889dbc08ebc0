#include "imageservice/worker/registry/attempts.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"

namespace imageservice::worker {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(784111777);  // Sun, 06 Nov 1994 08:49:37 GMT.

TEST(RetryDelayTest, IsWhatTheServerSaysUpToAMinute) {
  EXPECT_EQ(RetryDelay(1, "7", kNow), absl::Seconds(7));
  EXPECT_EQ(RetryDelay(1, "3600", kNow), absl::Seconds(60));
  EXPECT_EQ(RetryDelay(3, "Sun, 06 Nov 1994 08:49:57 GMT", kNow), absl::Seconds(20));
}

TEST(RetryDelayTest, DoublesWithJitterUpToAMinute) {
  absl::Duration base = absl::Milliseconds(500);
  for (int attempt = 1; attempt < 6; ++attempt, base *= 2) {
    EXPECT_GE(RetryDelay(attempt, "", kNow), base * 0.75);
    EXPECT_LE(RetryDelay(attempt, "gibberish", kNow), base * 1.25);
  }
  EXPECT_EQ(RetryDelay(50, "", kNow), absl::Seconds(60));
  EXPECT_GT(RetryDelay(-3, "", kNow), absl::ZeroDuration());
}

int Count(Persistence persistence, const absl::Status& failure, bool has_answered,
          const char* retry_after) {
  Attempts attempts(persistence);
  int made = 1;
  while (attempts.WaitForNext(failure, has_answered, retry_after)) {
    ++made;
  }
  return made;
}

TEST(AttemptsTest, AreFewerWhenSomebodyElseCanBeAsked) {
  const absl::Status busy = absl::UnavailableError("HTTP 503");
  EXPECT_EQ(Count(Persistence::kFull, busy, true, "0"), 5);
  EXPECT_EQ(Count(Persistence::kFull, busy, false, "0"), 2);
  EXPECT_EQ(Count(Persistence::kBrief, busy, true, "0"), 2);
  EXPECT_EQ(Count(Persistence::kBrief, busy, false, "0"), 1);
  EXPECT_EQ(Count(Persistence::kBrief, busy, true, "30"), 1) << "too long a wait";
}

TEST(AttemptsTest, OnlyRepeatWhatMayPass) {
  EXPECT_EQ(Count(Persistence::kFull, absl::NotFoundError("HTTP 404"), true, "0"), 1);
  EXPECT_EQ(Count(Persistence::kFull, absl::FailedPreconditionError("TLS"), false, "0"), 1);
}

}  // namespace
}  // namespace imageservice::worker
