#include "imageservice/worker/registry/attempts.h"

#include <algorithm>
#include <optional>
#include <random>

#include "absl/time/clock.h"
#include "imageservice/worker/registry/response_fields.h"

namespace imageservice::worker {
namespace {

constexpr absl::Duration kFirstDelay = absl::Milliseconds(500);
constexpr absl::Duration kLongestDelay = absl::Seconds(60);
constexpr absl::Duration kLongestBriefDelay = absl::Seconds(2);

}  // namespace

bool Attempts::WaitForNext(const absl::Status& failure, bool has_answered,
                           std::string_view retry_after) {
  const bool is_brief = persistence_ == Persistence::kBrief;
  const int limit = is_brief ? (has_answered ? 2 : 1) : (has_answered ? 5 : 2);
  if (++made_ >= limit || !absl::IsUnavailable(failure)) {
    return false;
  }
  const absl::Duration delay = RetryDelay(made_, retry_after, absl::Now());
  if (is_brief && delay > kLongestBriefDelay) {
    return false;
  }
  absl::SleepFor(delay);
  return true;
}

absl::Duration RetryDelay(int attempt, std::string_view retry_after, absl::Time now) {
  if (const std::optional<absl::Duration> asked = ParseRetryAfter(retry_after, now)) {
    return std::min(*asked, kLongestDelay);
  }
  thread_local std::minstd_rand random(static_cast<unsigned>(absl::GetCurrentTimeNanos()));
  const double jitter = std::uniform_real_distribution<double>(0.75, 1.25)(random);
  return std::min(kFirstDelay * (1 << std::clamp(attempt - 1, 0, 10)) * jitter, kLongestDelay);
}

}  // namespace imageservice::worker
