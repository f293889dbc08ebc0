#include "runtimeservice/streaming/task_group.h"

#include <utility>

namespace streaming {

void TaskGroup::Spawn(Task<> task) {
  ++running_;
  streaming::Spawn(loop_, std::move(task), [this] {
    --running_;
    ended_.Notify();
  });
}

Task<> TaskGroup::Join() {
  while (running_ > 0) {
    co_await ended_.Wait();
  }
}

}  // namespace streaming
