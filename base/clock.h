// The clock of waits, deadlines and timers: it only goes forward, whoever sets the date.
#pragma once

#include <chrono>
#include <compare>

#include "absl/time/time.h"

namespace base {

// A moment of CLOCK_MONOTONIC. A plain value. absl::Time is for what is shown and recorded: NTP or
// an administrator may step it, which must neither end a grace period early nor prolong one.
class SteadyTime {
 public:
  static SteadyTime Now() {
    return SteadyTime(absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()));
  }
  static SteadyTime InfiniteFuture() { return SteadyTime(absl::InfiniteDuration()); }
  static SteadyTime InfinitePast() { return SteadyTime(-absl::InfiniteDuration()); }

  // For the standard library's waits. Not for the infinite ones.
  std::chrono::steady_clock::time_point ToChrono() const {
    return std::chrono::steady_clock::time_point(absl::ToChronoNanoseconds(since_));
  }

  // Infinite moments stay infinite.
  friend SteadyTime operator+(SteadyTime time, absl::Duration duration) {
    return SteadyTime(time.since_ + duration);
  }
  friend SteadyTime operator-(SteadyTime time, absl::Duration duration) {
    return SteadyTime(time.since_ - duration);
  }
  friend absl::Duration operator-(SteadyTime later, SteadyTime earlier) {
    return later.since_ - earlier.since_;
  }
  friend bool operator==(SteadyTime a, SteadyTime b) { return a.since_ == b.since_; }
  friend std::weak_ordering operator<=>(SteadyTime a, SteadyTime b) {
    return a.since_ < b.since_   ? std::weak_ordering::less
           : b.since_ < a.since_ ? std::weak_ordering::greater
                                 : std::weak_ordering::equivalent;
  }

 private:
  explicit SteadyTime(absl::Duration since) : since_(since) {}

  absl::Duration since_;  // The clock's own beginning: the boot, as a rule.
};

}  // namespace base
