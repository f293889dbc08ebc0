// What /proc/PID/stat says of a process.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "absl/status/statusor.h"

namespace base {

struct ProcessStat {
  pid_t parent = 0;
  // In clock ticks since the boot. With the pid it names a process until the next boot.
  uint64_t start_time = 0;
  // It runs its own code no more: a zombie, or on its way there (an init that still waits for the
  // end of its namespace's other processes).
  bool ended = false;
};

// NOT_FOUND when there is no such process.
absl::StatusOr<ProcessStat> ReadProcessStat(pid_t pid);

}  // namespace base
