// Waiting for what happens in another thread or process.
#pragma once

#include <poll.h>

#include <functional>

#include "absl/time/clock.h"

namespace imageservice::testing {

// Polls until `condition` holds; a test that waits in vain fails.
inline bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > deadline) {
      return false;
    }
    poll(nullptr, 0, 2);
  }
  return true;
}

}  // namespace imageservice::testing
