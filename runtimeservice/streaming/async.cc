#include "runtimeservice/streaming/async.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <string>

#include "base/strings.h"

namespace streaming {

absl::Status ToStatus(const Error& error, std::string_view what) {
  if (!error) {
    return absl::OkStatus();
  }
  const std::string text = base::StrCat(what, ": ", error.message());
  if (error == asio::error::eof || error == asio::error::connection_reset ||
      error == asio::error::broken_pipe || error == asio::error::operation_aborted ||
      error == asio::error::bad_descriptor || error == asio::error::not_connected) {
    return absl::CancelledError(text);
  }
  if (error == asio::error::no_descriptors || error == boost::system::errc::no_space_on_device) {
    return absl::ResourceExhaustedError(text);
  }
  return absl::UnknownError(text);
}

void Spawn(asio::io_context& loop, Task<> task, std::function<void()> done) {
  asio::co_spawn(loop, std::move(task), [done = std::move(done)](const std::exception_ptr& thrown) {
    if (thrown) {
      std::rethrow_exception(thrown);
    }
    if (done) {
      done();
    }
  });
}

Task<> Signal::Wait() {
  const size_t before = notified_;
  while (notified_ == before) {
    Error error;
    co_await timer_.async_wait(Await(error));
  }
}

Task<bool> Signal::WaitFor(absl::Duration limit) {
  const size_t before = notified_;
  asio::steady_timer deadline(timer_.get_executor(), absl::ToChronoNanoseconds(limit));
  // The handler may run when this object is gone already.
  const auto waiting = std::make_shared<bool>(true);
  deadline.async_wait([this, waiting](const Error& error) {
    if (!error && *waiting) {
      timer_.cancel();
    }
  });
  while (notified_ == before && deadline.expiry() > std::chrono::steady_clock::now()) {
    Error error;
    co_await timer_.async_wait(Await(error));
  }
  *waiting = false;
  co_return notified_ != before;
}

void Signal::Notify() {
  ++notified_;
  timer_.cancel();
}

// In the queue as long as it waits, also when its coroutine is thrown away.
class Turns::Waiter {
 public:
  explicit Waiter(Turns* turns)
      : turns_(turns),
        granted_(turns->loop_),
        place_(turns->waiters_.insert(turns->waiters_.end(), this)) {}
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  ~Waiter() {
    if (!has_turn_) {
      turns_->waiters_.erase(place_);
    }
  }

  Task<> Wait() {
    while (!has_turn_) {
      co_await granted_.Wait();
    }
  }
  void Grant() {
    has_turn_ = true;
    turns_->waiters_.erase(place_);
    granted_.Notify();
  }

 private:
  Turns* const turns_;
  Signal granted_;
  const std::list<Waiter*>::iterator place_;
  bool has_turn_ = false;
};

Turns::Turn::~Turn() {
  if (turns_ == nullptr) {
    return;
  }
  if (turns_->waiters_.empty()) {
    turns_->taken_ = false;
  } else {
    turns_->waiters_.front()->Grant();
  }
}

Task<Turns::Turn> Turns::Take() {
  if (std::exchange(taken_, true)) {
    Waiter waiter(this);
    co_await waiter.Wait();
  }
  co_return Turn(this);
}

}  // namespace streaming
