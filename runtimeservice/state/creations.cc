#include "runtimeservice/state/creations.h"

#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {

absl::StatusOr<std::string> Creations::Run(const base::Context& ctx, const std::string& name,
                                           const std::string& group, const Work& work) {
  std::shared_ptr<Creation> creation;
  bool first = false;
  RETURN_IF_ERROR(AwaitAbandoned(ctx, name));
  {
    base::MutexLock lock(&mutex_);
    std::shared_ptr<Creation>& running = running_[name];
    if (!running) {
      running = std::make_shared<Creation>();
      running->group = group;
      first = true;
    }
    creation = running;
    ++creation->callers;
  }
  if (!first) {
    return Join(ctx, std::move(creation));
  }
  // The deadline is the caller's only as long as nobody joined: gRPC cancels at the deadline.
  const base::CancelCallback gone(ctx, [&] {
    bool last;
    {
      base::MutexLock lock(&mutex_);
      last = --creation->callers == 0;
    }
    if (last) {
      creation->cancellation->Cancel();
    }
  });
  absl::StatusOr<std::string> result =
      work(base::Context(base::SteadyTime::InfiniteFuture(), creation->cancellation));
  base::MutexLock lock(&mutex_);
  creation->done = true;
  creation->result = result;
  running_.erase(name);
  changed_.NotifyAll();
  return result;
}

absl::Status Creations::AwaitAbandoned(const base::Context& ctx, const std::string& name) {
  bool cancelled = false;  // Guarded by mutex_.
  const base::CancelCallback on_cancel(ctx, [this, &cancelled] {
    base::MutexLock lock(&mutex_);
    cancelled = true;
    changed_.NotifyAll();
  });
  base::MutexLock lock(&mutex_);
  bool in_time = true;
  for (;;) {
    const auto found = running_.find(name);
    if (found == running_.end() || found->second->callers > 0) {
      return absl::OkStatus();
    }
    if (cancelled || !in_time) {
      return absl::DeadlineExceededError(
          base::StrCat("an earlier attempt to create ", name, " is still being undone"));
    }
    in_time = changed_.WaitUntil(&mutex_, ctx.deadline());
  }
}

absl::StatusOr<std::string> Creations::Join(const base::Context& ctx,
                                            std::shared_ptr<Creation> creation) {
  bool cancelled = false;  // Guarded by mutex_.
  const base::CancelCallback on_cancel(ctx, [this, &cancelled] {
    base::MutexLock lock(&mutex_);
    cancelled = true;
    changed_.NotifyAll();
  });
  bool last = false;
  absl::Status status;
  {
    base::MutexLock lock(&mutex_);
    bool in_time = true;
    while (!creation->done && !cancelled && in_time) {
      in_time = changed_.WaitUntil(&mutex_, ctx.deadline());
    }
    if (creation->done) {
      return creation->result;
    }
    status = cancelled ? absl::CancelledError("the caller cancelled the request")
                       : absl::DeadlineExceededError("the request's deadline passed");
    last = --creation->callers == 0;
  }
  if (last) {
    creation->cancellation->Cancel();
  }
  return status;
}

void Creations::CancelGroup(const std::string& group) {
  std::vector<std::shared_ptr<base::Cancellation>> cancellations;
  {
    base::MutexLock lock(&mutex_);
    for (const auto& [name, creation] : running_) {
      if (creation->group == group) {
        cancellations.push_back(creation->cancellation);
      }
    }
  }
  for (const auto& cancellation : cancellations) {
    cancellation->Cancel();
  }
}

}  // namespace runtimeservice
