// Coroutines that work for one session at the same time and are waited for together.
#pragma once

#include <cstddef>

#include "runtimeservice/streaming/async.h"

namespace streaming {

// Must outlive its tasks: Join before it goes.
class TaskGroup {
 public:
  explicit TaskGroup(asio::io_context& loop) : loop_(loop), ended_(loop) {}
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Starts `task`.
  void Spawn(Task<> task);
  // Until all have ended, also those that start meanwhile.
  Task<> Join();

 private:
  asio::io_context& loop_;
  Signal ended_;
  size_t running_ = 0;
};

}  // namespace streaming
