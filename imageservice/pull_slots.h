// How many pulls run at the same time.
#pragma once

#include <deque>

#include "absl/status/status.h"
#include "base/context.h"
#include "base/mutex.h"
#include "imageservice/event.h"

namespace imageservice {

// First come, first served. Thread-safe.
class PullSlots {
 public:
  explicit PullSlots(int count) : free_(count) {}

  // Waits for a slot. After an error (the context's) none was taken.
  absl::Status Take(const base::Context& ctx);
  void Give();

 private:
  base::Mutex mutex_;
  int free_ ABSL_GUARDED_BY(mutex_);
  std::deque<Event*> waiting_
      ABSL_GUARDED_BY(mutex_);  // Of those in Take; set: the slot is theirs.
};

}  // namespace imageservice
