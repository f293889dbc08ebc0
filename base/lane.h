// A bounded lane of on-demand threads: where handlers block, so that gRPC's threads never do.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "base/mutex.h"

namespace base {

// Runs tasks on at most `max_threads` threads, started on demand with small stacks and retired when
// idle for ten seconds; the last to go gives freed memory back to the kernel.
// Thread-safe. A task must not wait for another task of the same lane.
class Lane {
 public:
  using Task = std::function<void()>;

  Lane(std::string name, int max_threads, size_t max_queued);
  ~Lane();  // Stops it.
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Fails with RESOURCE_EXHAUSTED when `max_queued` tasks already wait, and with CANCELLED once the
  // lane is being stopped; the task is then not run.
  absl::Status Post(Task task);

  // Runs what is queued, then waits for its threads; nothing is taken any more. Not to be called by
  // a task of the lane.
  void Stop();

  struct Load {
    int threads = 0;
    int idle = 0;
    size_t queued = 0;
    uint64_t rejected = 0;
  };
  Load load() const;
  const std::string& name() const { return name_; }

 private:
  static void* ThreadMain(void* lane);
  void RunThread();
  absl::Status StartThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const int max_threads_;
  const size_t max_queued_;

  mutable Mutex mutex_;
  CondVar work_;
  CondVar ended_;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mutex_);
  int threads_ ABSL_GUARDED_BY(mutex_) = 0;
  int idle_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t rejected_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace base
