// How often, and after what waits, one thing is asked of one endpoint.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace imageservice::worker {

// Whether somebody else could be asked instead.
enum class Persistence {
  kBrief,  // Yes: one more attempt at most, and only if it costs little.
  kFull,   // No: five, if there are answers, and two if there are none.
};

// The attempts at one request. One thread at a time.
class Attempts {
 public:
  explicit Attempts(Persistence persistence) : persistence_(persistence) {}

  // After a failed attempt: whether another makes sense, in which case it has waited for the right
  // moment. Only what is UNAVAILABLE is tried again. `has_answered`: the server sent a header,
  // perhaps with a Retry-After.
  bool WaitForNext(const absl::Status& failure, bool has_answered, std::string_view retry_after);

 private:
  const Persistence persistence_;
  int made_ = 0;
};

// How long to wait after the attempt of number `attempt`, from 1 on: what the server says in
// Retry-After, else half a second doubling, give or take a quarter, so that many nodes do not come
// back together. At most 60 s.
absl::Duration RetryDelay(int attempt, std::string_view retry_after, absl::Time now);

}  // namespace imageservice::worker
