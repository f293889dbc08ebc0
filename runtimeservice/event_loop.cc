#include "runtimeservice/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/status_macros.h"

namespace runtimeservice {
namespace {

constexpr uint64_t kWake = 0;  // No Watch has this number.

}  // namespace

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Start() {
  base::UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  base::UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll.valid() || !wake.valid()) {
    return base::ErrnoStatus(errno, "make the event loop");
  }
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = kWake}};
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return base::ErrnoStatus(errno, "make the event loop");
  }
  std::unique_ptr<EventLoop> loop(new EventLoop(std::move(epoll), std::move(wake)));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  const int error = pthread_create(&loop->thread_, &attributes, ThreadMain, loop.get());
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    loop->thread_ = {};
    return base::ErrnoStatus(error, "start the event loop");
  }
  return loop;
}

EventLoop::~EventLoop() {
  if (thread_ == pthread_t{}) {
    return;
  }
  {
    base::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.get(), 1);
  pthread_join(thread_, nullptr);
}

absl::StatusOr<EventLoop::Watch> EventLoop::OnHangup(int fd, Callback callback) {
  return Add(fd, EPOLLRDHUP, std::move(callback));
}

absl::StatusOr<EventLoop::Watch> EventLoop::OnReadable(int fd, Callback callback) {
  return Add(fd, EPOLLIN, std::move(callback));
}

absl::StatusOr<EventLoop::Watch> EventLoop::Add(int fd, uint32_t events, Callback callback) {
  base::MutexLock lock(&mutex_);
  const Watch watch = ++last_watch_;
  watched_.emplace(watch, Watched{.fd = fd, .callback = std::move(callback)});
  // By a number of our own: an event that is under way when its descriptor is closed must not be
  // taken for the next one's that gets the same.
  epoll_event event = {.events = events | EPOLLONESHOT, .data = {.u64 = watch}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    watched_.erase(watch);
    return base::ErrnoStatus(errno, "watch a descriptor");
  }
  return watch;
}

void EventLoop::Forget(Watch watch) {
  base::MutexLock lock(&mutex_);
  const auto found = watched_.find(watch);
  if (found != watched_.end()) {
    // Not left to close(2): another process may hold the same open file.
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
    watched_.erase(found);
  }
}

void EventLoop::At(base::SteadyTime when, Callback callback) {
  base::MutexLock lock(&mutex_);
  timers_.emplace(when, std::move(callback));
  eventfd_write(wake_.get(), 1);
}

absl::Duration EventLoop::Lag() {
  base::MutexLock lock(&mutex_);
  const base::SteadyTime now = base::SteadyTime::Now();
  asked_ = std::min(asked_, now);
  eventfd_write(wake_.get(), 1);
  return now - asked_;
}

void* EventLoop::ThreadMain(void* loop) {
  pthread_setname_np(pthread_self(), "events");
  static_cast<EventLoop*>(loop)->Run();
  return nullptr;
}

int EventLoop::TakeDue(std::vector<Callback>* due) {
  base::MutexLock lock(&mutex_);
  const base::SteadyTime now = base::SteadyTime::Now();
  asked_ = base::SteadyTime::InfiniteFuture();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    due->push_back(std::move(timers_.begin()->second));
    timers_.erase(timers_.begin());
  }
  if (stopping_ || !due->empty()) {
    return 0;
  }
  if (timers_.empty()) {
    return -1;
  }
  const absl::Duration wait = absl::Ceil(timers_.begin()->first - now, absl::Milliseconds(1));
  return static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(wait), 3'600'000));
}

EventLoop::Callback EventLoop::Take(Watch watch) {
  base::MutexLock lock(&mutex_);
  const auto found = watched_.find(watch);
  if (found == watched_.end()) {
    return nullptr;
  }
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
  Callback callback = std::move(found->second.callback);
  watched_.erase(found);
  return callback;
}

void EventLoop::Run() {
  for (;;) {
    std::vector<Callback> due;
    const int timeout = TakeDue(&due);
    for (const Callback& callback : due) {
      callback();
    }
    epoll_event events[32];
    const int count = epoll_wait(epoll_.get(), events, 32, timeout);
    for (int i = 0; i < count; ++i) {
      const Watch watch = events[i].data.u64;
      if (watch == kWake) {
        eventfd_t ignored;
        eventfd_read(wake_.get(), &ignored);
      } else if (const Callback callback = Take(watch)) {
        callback();
      }
    }
    base::MutexLock lock(&mutex_);
    if (stopping_) {
      return;
    }
  }
}

}  // namespace runtimeservice
