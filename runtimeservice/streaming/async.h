// Coroutines on the one event loop of crisp-stream. Everything in this folder runs on that loop's
// thread unless it says otherwise, so nothing here needs a lock.
//
// A handler reads like blocking code: it awaits a read, a write, a turn. What it may not do is
// block. Nothing throws: every Asio call is given Await(error), which reports by `error`.
#pragma once

// clang-format off
#include <utility>  // Before Asio, which forgets it.
// clang-format on

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstddef>
#include <functional>
#include <list>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace streaming {

namespace asio = boost::asio;
using Error = boost::system::error_code;

// A coroutine's result; it starts when it is awaited.
template <typename T = void>
using Task = asio::awaitable<T>;

// The completion token of every Asio call: `error` instead of an exception.
inline auto Await(Error& error) { return asio::redirect_error(asio::use_awaitable, error); }

// What failed as a status: "`what`: <text>". The other side's leaving (end of file, reset, a closed
// or cancelled descriptor of our own) is CANCELLED, a full table RESOURCE_EXHAUSTED, the rest
// UNKNOWN.
absl::Status ToStatus(const Error& error, std::string_view what);

// Starts `task` on `loop` and lets it run; `done` (may be null) is called at its end. An exception
// that escapes ends the process: there is none to expect.
void Spawn(asio::io_context& loop, Task<> task, std::function<void()> done = nullptr);

// A fact that several coroutines wait for, again and again.
class Signal {
 public:
  explicit Signal(asio::io_context& loop) : timer_(loop, asio::steady_timer::time_point::max()) {}

  // Until the next Notify.
  Task<> Wait();
  // Until the next Notify, at most `limit`; returns whether it came.
  Task<bool> WaitFor(absl::Duration limit);
  // Wakes all that wait now.
  void Notify();

 private:
  asio::steady_timer timer_;
  size_t notified_ = 0;
};

// One coroutine at a time, in the order of asking. Who waits is woken alone: the cost of a turn
// does not grow with the number of those who wait.
class Turns {
 public:
  explicit Turns(asio::io_context& loop) : loop_(loop) {}

  // Ends its turn when it goes.
  class Turn {
   public:
    explicit Turn(Turns* turns) : turns_(turns) {}
    Turn(Turn&& other) noexcept : turns_(std::exchange(other.turns_, nullptr)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn();

   private:
    Turns* turns_;
  };

  // The object must outlive the turn.
  Task<Turn> Take();

 private:
  class Waiter;

  asio::io_context& loop_;
  std::list<Waiter*> waiters_;
  bool taken_ = false;
};

}  // namespace streaming
