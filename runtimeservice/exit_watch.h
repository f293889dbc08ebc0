// Watches the monitors of running containers: tells of exits, signals, and completes stops.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/id.h"
#include "base/mutex.h"
#include "runtimeservice/event_loop.h"
#include "runtimeservice/oci/monitor.h"

namespace runtimeservice {

// Thread-safe. No thread waits for a container: exits and timers arrive on the event loop.
class ExitWatch {
 public:
  // Called on the loop's thread when a container's monitor has ended, with what it wrote: NOT_FOUND
  // when it ended without a word, DATA_LOSS when its words are damaged.
  using OnExit = std::function<void(const base::ContainerId&, absl::StatusOr<ExitRecord>)>;
  using StopDone = std::function<void(absl::Status)>;

  // Called on the loop's thread when a container's init has ended, while its monitor may still read
  // what others hold the output open for.
  using OnInitEnd = std::function<void(const base::ContainerId&)>;

  // `loop` must outlive this object; `containers_directory` holds the state directories by id.
  ExitWatch(EventLoop& loop, std::string containers_directory, OnExit on_exit,
            OnInitEnd on_init_end = nullptr)
      : loop_(loop),
        directory_(std::move(containers_directory)),
        on_exit_(std::move(on_exit)),
        on_init_end_(std::move(on_init_end)) {}

  // Takes over the connection to the monitor of `id`.
  absl::Status Watch(const base::ContainerId& id, MonitorConnection connection);

  // Signals the container's init. OK when it has ended or is not watched.
  absl::Status Signal(const base::ContainerId& id, int signal);

  // Whether the container's init has not ended, by its pidfd: sooner than its exit is told.
  bool Running(const base::ContainerId& id) const;

  // Calls `done` once: with OK when the container has ended (Ended was called), or with
  // DEADLINE_EXCEEDED at the context's deadline. At `kill_at` calls `kill`, on the loop's thread,
  // and again every few seconds as long as somebody waits for the end: a frozen or sleeping process
  // may be there to be killed only later. A second, earlier stop kills earlier. When the container
  // is not watched, `done` is called now.
  void Stop(const base::Context& ctx, const base::ContainerId& id, base::SteadyTime kill_at,
            std::function<void()> kill, StopDone done);

  // Completes the stops of `id`: its exit can now be seen by everyone.
  void Ended(const base::ContainerId& id);

 private:
  struct Stopping {
    uint64_t number;
    StopDone done;
  };
  struct Watched {
    explicit Watched(MonitorConnection c) : connection(std::move(c)) {}
    MonitorConnection connection;
    EventLoop::Watch init = 0;  // 0: not watched.
    std::vector<Stopping> stops;
  };
  void HandleHangup(const base::ContainerId& id);
  // Takes it out; null when it is not watched.
  std::unique_ptr<Watched> Forget(const base::ContainerId& id);
  void Expire(const base::ContainerId& id, uint64_t number);
  // Kills at `when` and again, unless nobody waits any more.
  void KillAt(base::SteadyTime when, const base::ContainerId& id, std::function<void()> kill);
  bool IsAwaited(const base::ContainerId& id);

  EventLoop& loop_;
  const std::string directory_;
  const OnExit on_exit_;
  const OnInitEnd on_init_end_;

  mutable base::Mutex mutex_;
  std::map<base::ContainerId, std::unique_ptr<Watched>> watched_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace runtimeservice
