// What keeps the process from ending: connections, requests of the daemon, and commands whose
// client has left.
#pragma once

#include <cstddef>
#include <utility>

#include "runtimeservice/streaming/async.h"

namespace streaming {

// For the loop's thread; outlives its holds.
class Activity {
 public:
  explicit Activity(asio::io_context& loop) : changed_(loop) {}
  Activity(const Activity&) = delete;
  Activity& operator=(const Activity&) = delete;

  class Hold {
   public:
    explicit Hold(Activity* activity) : activity_(activity) {}
    Hold(Hold&& other) noexcept : activity_(std::exchange(other.activity_, nullptr)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (activity_ != nullptr) {
        activity_->Add(-1);
      }
    }

   private:
    Activity* activity_;
  };

  // Until the result goes, the process lives.
  Hold Begin() {
    Add(1);
    return Hold(this);
  }
  bool any() const { return count_ > 0; }
  // Notified when the first begins, when the last ends, and by whoever changes what else counts.
  Signal& changed() { return changed_; }

 private:
  void Add(int change) {
    count_ += change;
    if (count_ == 0 || (count_ == 1 && change > 0)) {
      changed_.Notify();
    }
  }

  int count_ = 0;
  Signal changed_;
};

}  // namespace streaming
