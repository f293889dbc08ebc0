// Where the time goes: one clock reading at each change of what a thread does.
#pragma once

#include <time.h>

#include <cstdint>

namespace imageservice::worker {

// One thread. Stages of pieces are far below a microsecond's worth each, so sums are nanoseconds.
class StageTimer {
 public:
  StageTimer() : last_(Now()) {}

  // Adds the time since the last call, or the construction, to `*nanoseconds`.
  void Charge(uint64_t* nanoseconds) {
    const uint64_t now = Now();
    *nanoseconds += now - last_;
    last_ = now;
  }

 private:
  static uint64_t Now() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  }

  uint64_t last_;
};

}  // namespace imageservice::worker
