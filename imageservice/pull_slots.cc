#include "imageservice/pull_slots.h"

#include "base/status_macros.h"

namespace imageservice {

absl::Status PullSlots::Take(const base::Context& ctx) {
  RETURN_IF_ERROR(ctx.Check());
  Event granted;
  {
    base::MutexLock lock(&mutex_);
    if (free_ > 0) {
      --free_;
      return absl::OkStatus();
    }
    waiting_.push_back(&granted);
  }
  const absl::Status waited = granted.Wait(ctx);
  base::MutexLock lock(&mutex_);
  if (granted.is_set()) {
    return absl::OkStatus();
  }
  std::erase(waiting_, &granted);
  return waited;
}

void PullSlots::Give() {
  base::MutexLock lock(&mutex_);
  if (waiting_.empty()) {
    ++free_;
    return;
  }
  waiting_.front()->Set();  // Under the lock: the event lives until its owner has had it.
  waiting_.pop_front();
}

}  // namespace imageservice
