// One thread that waits for descriptors and timers, so that no other has to.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace runtimeservice {

// Thread-safe. Callbacks run on the loop's thread, one at a time, and must not block.
class EventLoop {
 public:
  using Callback = std::function<void()>;

  static absl::StatusOr<std::unique_ptr<EventLoop>> Start();
  ~EventLoop();  // Stops the thread; what has not run is dropped.
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Calls `callback` once when the peer of socket `fd` has closed it, then forgets the descriptor.
  // The caller keeps it open until then.
  absl::Status OnHangup(int fd, Callback callback);
  // Calls `callback` at `when`, at once if that has passed.
  void At(absl::Time when, Callback callback);
  void Post(Callback callback) { At(absl::InfinitePast(), std::move(callback)); }

  // For how long the loop has not come round although it was asked to, by an earlier call; zero
  // when it did. For the watchdog.
  absl::Duration Lag();

 private:
  EventLoop(base::UniqueFd epoll, base::UniqueFd wake)
      : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  static void* ThreadMain(void* loop);
  void Run();
  // Takes the callbacks of due timers out; returns how long epoll may wait, in milliseconds.
  int TakeDue(std::vector<Callback>* due);

  const base::UniqueFd epoll_;
  const base::UniqueFd wake_;
  pthread_t thread_ = {};

  base::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<int, Callback> hangups_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Time, Callback> timers_ ABSL_GUARDED_BY(mutex_);
  absl::Time asked_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
};

}  // namespace runtimeservice
