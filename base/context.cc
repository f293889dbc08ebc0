#include "base/context.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <limits>

namespace base {

void Cancellation::Cancel() {
  MutexLock lock(&mutex_);
  if (cancelled_) {
    return;
  }
  cancelled_ = true;
  if (fd_.valid()) {
    eventfd_write(fd_.get(), 1);
  }
  for (const auto& [number, callback] : callbacks_) {
    callback();
  }
  callbacks_.clear();
}

bool Cancellation::cancelled() const {
  MutexLock lock(&mutex_);
  return cancelled_;
}

int Cancellation::fd() {
  MutexLock lock(&mutex_);
  if (!fd_.valid()) {
    fd_.Reset(eventfd(cancelled_ ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  return fd_.get();
}

int Context::cancel_fd() const { return cancellation_ ? cancellation_->fd() : -1; }

absl::Status Context::Check() const {
  if (cancellation_ && cancellation_->cancelled()) {
    return absl::CancelledError("the caller cancelled the request");
  }
  if (SteadyTime::Now() >= deadline_) {
    return absl::DeadlineExceededError("the request's deadline passed");
  }
  return absl::OkStatus();
}

int Context::PollTimeout() const {
  if (deadline_ == SteadyTime::InfiniteFuture()) {
    return -1;
  }
  const absl::Duration left = std::max(deadline_ - SteadyTime::Now(), absl::ZeroDuration());
  const int64_t milliseconds = absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)));
  return static_cast<int>(std::min<int64_t>(milliseconds, std::numeric_limits<int>::max()));
}

Context Context::WithTimeout(absl::Duration timeout) const {
  return Context(std::min(deadline_, SteadyTime::Now() + timeout), cancellation_);
}

Context Context::Detached(absl::Duration timeout) {
  return Context(SteadyTime::Now() + timeout, nullptr);
}

CancelCallback::CancelCallback(const Context& ctx, std::function<void()> callback)
    : cancellation_(ctx.cancellation_) {
  if (!cancellation_) {
    return;
  }
  MutexLock lock(&cancellation_->mutex_);
  if (cancellation_->cancelled_) {
    callback();
    return;
  }
  number_ = ++cancellation_->next_callback_;
  cancellation_->callbacks_[number_] = std::move(callback);
}

CancelCallback::~CancelCallback() {
  if (cancellation_) {
    MutexLock lock(&cancellation_->mutex_);
    cancellation_->callbacks_.erase(number_);
  }
}

}  // namespace base
