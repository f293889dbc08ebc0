#include "base/lane.h"

#include <malloc.h>
#include <pthread.h>

#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {
constexpr size_t kStackBytes = 256 * 1024;
constexpr absl::Duration kIdleTime = absl::Seconds(10);
}  // namespace

Lane::Lane(std::string name, int max_threads, size_t max_queued)
    : name_(std::move(name)), max_threads_(max_threads), max_queued_(max_queued) {}

Lane::~Lane() { Stop(); }

void Lane::Stop() {
  MutexLock lock(&mutex_);
  stopping_ = true;
  work_.NotifyAll();
  while (threads_ > 0) {
    ended_.Wait(&mutex_);
  }
}

absl::Status Lane::Post(Task task) {
  MutexLock lock(&mutex_);
  if (stopping_) {
    return absl::CancelledError(StrCat("the ", name_, " lane ends"));
  }
  if (queue_.size() >= max_queued_) {
    ++rejected_;
    return absl::ResourceExhaustedError(
        StrCat("the ", name_, " lane is full: ", queue_.size(), " requests wait"));
  }
  queue_.push_back(std::move(task));
  // An idle thread takes one task; the others need threads of their own.
  if (static_cast<size_t>(idle_) < queue_.size() && threads_ < max_threads_) {
    absl::Status started = StartThread();
    if (!started.ok() && threads_ == 0) {
      queue_.pop_back();
      ++rejected_;
      return started;
    }
  }
  work_.NotifyOne();
  return absl::OkStatus();
}

Lane::Load Lane::load() const {
  MutexLock lock(&mutex_);
  return {.threads = threads_, .idle = idle_, .queued = queue_.size(), .rejected = rejected_};
}

absl::Status Lane::StartThread() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, &Lane::ThreadMain, this);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    return absl::ResourceExhaustedError(
        ErrnoStatus(error, StrCat("start a thread of the ", name_, " lane")).message());
  }
  ++threads_;
  return absl::OkStatus();
}

void* Lane::ThreadMain(void* lane) {
  auto* self = static_cast<Lane*>(lane);
  pthread_setname_np(pthread_self(), self->name_.substr(0, 15).c_str());
  self->RunThread();
  return nullptr;
}

void Lane::RunThread() {
  MutexLock lock(&mutex_);
  for (;;) {
    ++idle_;
    bool in_time = true;
    const SteadyTime until = SteadyTime::Now() + kIdleTime;
    while (queue_.empty() && !stopping_ && in_time) {
      in_time = work_.WaitUntil(&mutex_, until);
    }
    --idle_;
    if (queue_.empty()) {
      break;
    }
    Task task = std::move(queue_.front());
    queue_.pop_front();
    mutex_.Unlock();
    task();
    task = nullptr;  // Its captures die outside the lock.
    mutex_.Lock();
  }
  if (threads_ == 1) {
    malloc_trim(0);
  }
  --threads_;
  ended_.NotifyAll();
}

}  // namespace base
