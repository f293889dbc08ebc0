// Rollback of a verb: each step adds its reversal; they run in reverse order unless committed.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace base {

// Not thread-safe: it belongs to one handler on one thread.
class Undo {
 public:
  Undo() = default;
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    while (!steps_.empty()) {
      std::function<void()> step = std::move(steps_.back());
      steps_.pop_back();
      step();
    }
  }

  void Add(std::function<void()> step) { steps_.push_back(std::move(step)); }
  // Everything worked: nothing is undone.
  void Commit() { steps_.clear(); }

 private:
  std::vector<std::function<void()>> steps_;
};

}  // namespace base
