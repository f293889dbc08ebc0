// Who may change what now: leases on pods and containers, taken once at the top of a verb.
#pragma once

#include <list>
#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/mutex.h"

namespace runtimeservice {

// Order: a pod's lease before its containers'. Waiters are served in the order they came, so a stop
// is not starved by creates. Thread-safe.
class Leases {
 public:
  enum class Mode { kShared, kExclusive };

  // Held until destroyed. The Leases it came from must outlive it.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept { *this = std::move(other); }
    Lease& operator=(Lease&& other) noexcept {
      std::swap(leases_, other.leases_);
      std::swap(key_, other.key_);
      std::swap(mode_, other.mode_);
      return *this;
    }
    ~Lease();

   private:
    friend class Leases;
    Lease(Leases* leases, std::string key, Mode mode)
        : leases_(leases), key_(std::move(key)), mode_(mode) {}

    Leases* leases_ = nullptr;
    std::string key_;
    Mode mode_ = Mode::kShared;
  };

  // Waits for the lease on `key` (an id). DEADLINE_EXCEEDED or CANCELLED with the context.
  absl::StatusOr<Lease> Acquire(const base::Context& ctx, const std::string& key, Mode mode);

 private:
  struct Entry {
    int shared = 0;
    bool exclusive = false;
    std::list<Mode> queue;  // Waiters, the longest-waiting first.
  };
  void Release(const std::string& key, Mode mode);
  static bool Grantable(const Entry& entry, Mode mode);
  void EraseIfUnused(const std::string& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  base::Mutex mutex_;
  base::CondVar changed_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace runtimeservice
