// A flag that threads wait for beside the deadline and the cancellation of their request.
#pragma once

#include <atomic>
#include <initializer_list>

#include "absl/status/status.h"
#include "base/context.h"
#include "base/unique_fd.h"

namespace imageservice {

// Thread-safe.
class Event {
 public:
  Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Lets every waiter go, now and later, until Clear.
  void Set();
  void Clear();
  bool is_set() const { return set_.load(); }
  // Readable while the event is set; -1 if the process has run out of descriptors.
  int fd() const { return fd_.get(); }

  // OK once the event is set, else the context's DEADLINE_EXCEEDED or CANCELLED.
  absl::Status Wait(const base::Context& ctx) const { return WaitForAny(ctx, {this}); }
  // The same for the first of several, or for `fd`, unless it is -1, to become readable.
  static absl::Status WaitForAny(const base::Context& ctx,
                                 std::initializer_list<const Event*> events, int fd = -1);

 private:
  std::atomic<bool> set_ = false;
  base::UniqueFd fd_;
};

}  // namespace imageservice
