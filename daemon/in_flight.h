// The requests that are being worked on: for the log at SIGUSR1 and for `crisp status`.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/mutex.h"

namespace crispd {

// kWaiting: no thread is held, an event will complete it (StopContainer).
enum class Stage { kQueued, kRunning, kWaiting };

struct Operation {
  uint64_t request = 0;
  std::string method;
  std::string subject;  // The object it is about, such as "container=4f53…"; never a secret.
  std::string lane;     // Empty: answered from memory.
  absl::Time since;
  Stage stage = Stage::kQueued;
};

// Thread-safe.
class InFlight {
 public:
  // Numbers the operation and keeps it until Remove.
  uint64_t Add(std::string method, std::string subject, std::string lane);
  void SetStage(uint64_t request, Stage stage);
  void Remove(uint64_t request);
  // The oldest first.
  std::vector<Operation> List() const;

 private:
  mutable base::Mutex mutex_;
  uint64_t last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Operation> operations_ ABSL_GUARDED_BY(mutex_);
};

// Whole milliseconds with a unit, also when there are none: "0ms", "1.2s".
std::string DurationText(absl::Duration duration);

// One line: "request=7 RunPodSandbox pod=… running for 1.2s in the sandbox lane".
std::string Describe(const Operation& operation, absl::Time now);

// {"operations": [{"request": 7, …}]}, for the verbose Status answer.
std::string OperationsJson(const std::vector<Operation>& operations, absl::Time now);

}  // namespace crispd
