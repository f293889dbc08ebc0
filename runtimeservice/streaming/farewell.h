// How long a client that was told the end may keep its connection open: who still takes output may
// take long, who has it all has nothing to wait for.
#pragma once

#include <algorithm>
#include <cstddef>

#include "absl/time/time.h"
#include "base/clock.h"
#include "runtimeservice/streaming/byte_stream.h"
#include "runtimeservice/streaming/limits.h"

namespace streaming {

class Farewell {
 public:
  // From now on, by `limits`: farewell once all is acknowledged, idle while nothing more is.
  explicit Farewell(const Limits& limits) : limits_(limits) {}

  // What is left of its time at most; 0 when it is over. How much `stream` still has to send is
  // told by nobody, so ask again every limits.farewell / 4.
  absl::Duration Left(ByteStream& stream) {
    if (const size_t now = stream.Unacknowledged(); now != unacknowledged_) {
      unacknowledged_ = now;
      since_ = base::SteadyTime::Now();
    }
    const absl::Duration limit = unacknowledged_ == 0 ? limits_.farewell : limits_.idle;
    if (limit <= absl::ZeroDuration()) {
      return absl::InfiniteDuration();
    }
    return std::max(absl::ZeroDuration(), since_ + limit - base::SteadyTime::Now());
  }

 private:
  const Limits limits_;
  size_t unacknowledged_ = 0;
  base::SteadyTime since_ = base::SteadyTime::Now();
};

}  // namespace streaming
