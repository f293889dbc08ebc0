#include "runtimeservice/exit_watch.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr absl::Duration kKillAgain = absl::Seconds(5);

}  // namespace

absl::Status ExitWatch::Watch(const base::ContainerId& id, MonitorConnection connection) {
  const int fd = connection.fd();
  const int pidfd = connection.pidfd();
  {
    base::MutexLock lock(&mutex_);
    watched_[id] = std::make_unique<Watched>(std::move(connection));
  }
  if (on_init_end_ && pidfd >= 0) {
    // Before the hang-up is watched, which may end all this at once.
    const auto init = loop_.OnReadable(pidfd, [this, id] { on_init_end_(id); });
    base::MutexLock lock(&mutex_);
    if (const auto found = watched_.find(id); found != watched_.end()) {
      found->second->init = init.value_or(0);
    }
  }
  const absl::Status watched = loop_.OnHangup(fd, [this, id] { HandleHangup(id); }).status();
  if (!watched.ok()) {
    Forget(id);
  }
  return watched;
}

absl::Status ExitWatch::Signal(const base::ContainerId& id, int signal) {
  base::MutexLock lock(&mutex_);
  const auto found = watched_.find(id);
  if (found == watched_.end() || found->second->connection.pidfd() < 0) {
    return absl::OkStatus();
  }
  // Not blocking, so the lock may be held: it keeps the descriptor from being closed.
  if (syscall(SYS_pidfd_send_signal, found->second->connection.pidfd(), signal, nullptr, 0) != 0 &&
      errno != ESRCH) {
    return base::ErrnoStatus(errno, base::StrCat("send signal ", signal, " to ", id.str()));
  }
  return absl::OkStatus();
}

bool ExitWatch::Running(const base::ContainerId& id) const {
  base::MutexLock lock(&mutex_);
  const auto found = watched_.find(id);
  if (found == watched_.end()) {
    return false;
  }
  pollfd ended = {.fd = found->second->connection.pidfd(), .events = POLLIN, .revents = 0};
  return ended.fd >= 0 && poll(&ended, 1, 0) == 0;
}

void ExitWatch::Stop(const base::Context& ctx, const base::ContainerId& id,
                     base::SteadyTime kill_at, std::function<void()> kill, StopDone done) {
  uint64_t number = 0;
  {
    base::MutexLock lock(&mutex_);
    const auto found = watched_.find(id);
    if (found != watched_.end()) {
      number = ++next_number_;
      found->second->stops.push_back({.number = number, .done = std::move(done)});
    }
  }
  if (number == 0) {
    done(absl::OkStatus());
    return;
  }
  KillAt(kill_at, id, std::move(kill));
  if (ctx.deadline() != base::SteadyTime::InfiniteFuture()) {
    loop_.At(ctx.deadline(), [this, id, number] { Expire(id, number); });
  }
}

void ExitWatch::KillAt(base::SteadyTime when, const base::ContainerId& id,
                       std::function<void()> kill) {
  loop_.At(when, [this, id, kill = std::move(kill)] {
    if (IsAwaited(id)) {
      kill();
      KillAt(base::SteadyTime::Now() + kKillAgain, id, kill);
    }
  });
}

bool ExitWatch::IsAwaited(const base::ContainerId& id) {
  base::MutexLock lock(&mutex_);
  const auto found = watched_.find(id);
  return found != watched_.end() && !found->second->stops.empty();
}

void ExitWatch::Expire(const base::ContainerId& id, uint64_t number) {
  StopDone done;
  {
    base::MutexLock lock(&mutex_);
    const auto found = watched_.find(id);
    if (found == watched_.end()) {
      return;
    }
    std::erase_if(found->second->stops, [&](Stopping& stop) {
      if (stop.number != number) {
        return false;
      }
      done = std::move(stop.done);
      return true;
    });
  }
  if (done) {
    done(absl::DeadlineExceededError(base::StrCat("container ", id.str(), " has not ended yet")));
  }
}

void ExitWatch::HandleHangup(const base::ContainerId& id) {
  absl::StatusOr<std::optional<ExitRecord>> exit =
      ReadExit(base::StrCat(directory_, "/", id.str()));
  if (!exit.ok()) {
    on_exit_(id, exit.status());
  } else if (!exit->has_value()) {
    on_exit_(id, absl::NotFoundError("its monitor ended without a word"));
  } else {
    on_exit_(id, **exit);
  }
}

void ExitWatch::Ended(const base::ContainerId& id) {
  const std::unique_ptr<Watched> watched = Forget(id);
  if (watched == nullptr) {
    return;
  }
  for (const Stopping& stop : watched->stops) {
    stop.done(absl::OkStatus());
  }
}

std::unique_ptr<ExitWatch::Watched> ExitWatch::Forget(const base::ContainerId& id) {
  std::unique_ptr<Watched> watched;
  {
    base::MutexLock lock(&mutex_);
    const auto found = watched_.find(id);
    if (found == watched_.end()) {
      return nullptr;
    }
    watched = std::move(found->second);
    watched_.erase(found);
  }
  loop_.Forget(watched->init);  // Before its descriptor is closed.
  return watched;
}

}  // namespace runtimeservice
