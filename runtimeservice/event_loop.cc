#include "runtimeservice/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/status_macros.h"

namespace runtimeservice {

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Start() {
  base::UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  base::UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll.valid() || !wake.valid()) {
    return base::ErrnoStatus(errno, "make the event loop");
  }
  epoll_event event = {.events = EPOLLIN, .data = {.fd = wake.get()}};
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

absl::Status EventLoop::OnHangup(int fd, Callback callback) {
  base::MutexLock lock(&mutex_);
  hangups_[fd] = std::move(callback);
  epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data = {.fd = fd}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    hangups_.erase(fd);
    return base::ErrnoStatus(errno, "watch a descriptor");
  }
  return absl::OkStatus();
}

void EventLoop::At(absl::Time when, Callback callback) {
  base::MutexLock lock(&mutex_);
  timers_.emplace(when, std::move(callback));
  eventfd_write(wake_.get(), 1);
}

absl::Duration EventLoop::Lag() {
  base::MutexLock lock(&mutex_);
  const absl::Time now = absl::Now();
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
  const absl::Time now = absl::Now();
  asked_ = absl::InfiniteFuture();
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
      const int fd = events[i].data.fd;
      if (fd == wake_.get()) {
        eventfd_t ignored;
        eventfd_read(fd, &ignored);
        continue;
      }
      Callback callback;
      {
        base::MutexLock lock(&mutex_);
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
        callback = std::move(hangups_[fd]);
        hangups_.erase(fd);
      }
      callback();
    }
    base::MutexLock lock(&mutex_);
    if (stopping_) {
      return;
    }
  }
}

}  // namespace runtimeservice
