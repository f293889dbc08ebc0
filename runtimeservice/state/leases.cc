#include "runtimeservice/state/leases.h"

#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {

Leases::Lease::~Lease() {
  if (leases_ != nullptr) {
    leases_->Release(key_, mode_);
  }
}

bool Leases::Grantable(const Entry& entry, Mode mode) {
  return !entry.exclusive && (mode == Mode::kShared || entry.shared == 0);
}

absl::StatusOr<Leases::Lease> Leases::Acquire(const base::Context& ctx, const std::string& key,
                                              Mode mode) {
  bool cancelled = false;  // Guarded by mutex_.
  const base::CancelCallback on_cancel(ctx, [this, &cancelled] {
    base::MutexLock lock(&mutex_);
    cancelled = true;
    changed_.NotifyAll();
  });
  base::MutexLock lock(&mutex_);
  Entry& entry = entries_[key];
  const auto place = entry.queue.insert(entry.queue.end(), mode);
  absl::Status status;
  bool in_time = true;
  while (place != entry.queue.begin() || !Grantable(entry, mode)) {
    if (cancelled) {
      status = absl::CancelledError("the caller cancelled the request");
      break;
    }
    if (!in_time) {
      status = absl::DeadlineExceededError("the request's deadline passed");
      break;
    }
    in_time = changed_.WaitUntil(&mutex_, ctx.deadline());
  }
  entry.queue.erase(place);
  changed_.NotifyAll();
  if (!status.ok()) {
    EraseIfUnused(key);
    return base::Annotate(status, base::StrCat("wait for another operation on ", key));
  }
  if (mode == Mode::kShared) {
    ++entry.shared;
  } else {
    entry.exclusive = true;
  }
  return Lease(this, key, mode);
}

void Leases::Release(const std::string& key, Mode mode) {
  base::MutexLock lock(&mutex_);
  Entry& entry = entries_[key];
  if (mode == Mode::kShared) {
    --entry.shared;
  } else {
    entry.exclusive = false;
  }
  EraseIfUnused(key);
  changed_.NotifyAll();
}

void Leases::EraseIfUnused(const std::string& key) {
  const auto found = entries_.find(key);
  if (found->second.shared == 0 && !found->second.exclusive && found->second.queue.empty()) {
    entries_.erase(found);
  }
}

}  // namespace runtimeservice
