// What a request carries down the stack: its deadline, its cancellation and the ids for the log.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace base {

// Tells a request that nobody waits for it any more. Thread-safe; shared between the one who
// cancels and the contexts made from it.
class Cancellation {
 public:
  // Makes the descriptor of every context readable; repeating it does nothing.
  void Cancel();
  bool cancelled() const;

 private:
  friend class Context;
  friend class CancelCallback;
  // The descriptor that becomes readable, made when first asked for.
  int fd();

  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  UniqueFd fd_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_callback_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::function<void()>> callbacks_ ABSL_GUARDED_BY(mutex_);
};

// Cheap to copy. Whatever blocks takes one and polls cancel_fd() beside its own descriptor, until
// deadline().
class Context {
 public:
  // No deadline, never cancelled.
  Context() = default;
  Context(SteadyTime deadline, std::shared_ptr<Cancellation> cancellation)
      : deadline_(deadline), cancellation_(std::move(cancellation)) {}

  SteadyTime deadline() const { return deadline_; }
  // A descriptor that becomes readable when the request is cancelled; -1 if it never can be.
  int cancel_fd() const;
  // OK, CANCELLED or DEADLINE_EXCEEDED.
  absl::Status Check() const;
  // Milliseconds until the deadline as poll(2) wants them: rounded up, 0 when it passed, -1 for
  // none.
  int PollTimeout() const;

  // The same cancellation with the earlier of both deadlines.
  Context WithTimeout(absl::Duration timeout) const;
  // For work that must be finished although the caller went: no cancellation, this deadline.
  static Context Detached(absl::Duration timeout);

 private:
  friend class CancelCallback;

  SteadyTime deadline_ = SteadyTime::InfiniteFuture();
  std::shared_ptr<Cancellation> cancellation_;
};

// Calls `callback` once when the context's request is cancelled, at once if it was. It runs under
// the cancellation's lock: it must be short and must not touch the context or this object. Once the
// destructor has returned it does not run any more.
class CancelCallback {
 public:
  CancelCallback(const Context& ctx, std::function<void()> callback);
  ~CancelCallback();
  CancelCallback(const CancelCallback&) = delete;
  CancelCallback& operator=(const CancelCallback&) = delete;

 private:
  const std::shared_ptr<Cancellation> cancellation_;
  uint64_t number_ = 0;
};

}  // namespace base
