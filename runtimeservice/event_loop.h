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
#include "base/clock.h"
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

  // Names what is watched; never used twice.
  using Watch = uint64_t;

  // Calls `callback` once when the peer of socket `fd` has closed it, then forgets the descriptor.
  // The caller keeps it open until then, or until Forget has returned.
  absl::StatusOr<Watch> OnHangup(int fd, Callback callback);
  // The same when `fd` can be read; a pidfd can once its process has ended.
  absl::StatusOr<Watch> OnReadable(int fd, Callback callback);
  // Calls the callback no more, unless it runs already. OK for what is forgotten.
  void Forget(Watch watch);
  // Calls `callback` at `when`, at once if that has passed.
  void At(base::SteadyTime when, Callback callback);
  void Post(Callback callback) { At(base::SteadyTime::InfinitePast(), std::move(callback)); }

  // For how long the loop has not come round although it was asked to, by an earlier call; zero
  // when it did. For the watchdog.
  absl::Duration Lag();

 private:
  EventLoop(base::UniqueFd epoll, base::UniqueFd wake)
      : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  struct Watched {
    int fd;
    Callback callback;
  };
  absl::StatusOr<Watch> Add(int fd, uint32_t events, Callback callback);
  static void* ThreadMain(void* loop);
  void Run();
  // Forgets it and returns its callback; null when that was forgotten before.
  Callback Take(Watch watch);
  // Takes the callbacks of due timers out; returns how long epoll may wait, in milliseconds.
  int TakeDue(std::vector<Callback>* due);

  const base::UniqueFd epoll_;
  const base::UniqueFd wake_;
  pthread_t thread_ = {};

  base::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_watch_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Watch, Watched> watched_ ABSL_GUARDED_BY(mutex_);
  std::multimap<base::SteadyTime, Callback> timers_ ABSL_GUARDED_BY(mutex_);
  base::SteadyTime asked_ ABSL_GUARDED_BY(mutex_) = base::SteadyTime::InfiniteFuture();
};

}  // namespace runtimeservice
