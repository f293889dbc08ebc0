// The daemon's side of crisp-monitor: starting one for a new container, and talking to those that
// run.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/launcher.h"
#include "base/unique_fd.h"
#include "conmon/protocol.h"

namespace runtimeservice {

using base::Context;

// What a monitor must know of its container. All paths are absolute.
struct MonitorSpec {
  std::string monitor_path;  // The crisp-monitor binary.
  std::string container_id;
  std::vector<std::string>
      runtime;            // The OCI runtime and its global options: Runtime::MonitorCommand.
  std::string bundle;     // Holds config.json.
  std::string state_dir;  // Exists; gets the files named in conmon/protocol.h.
  std::string log_path;   // CRI log; its directory exists. Empty: output is discarded.
  bool terminal = false;
  bool has_stdin = false;
  bool stdin_once = false;
  // Without stdin the process reads the end of a pipe, not of /dev/null: crun gives what it finds
  // as standard input to the process's user, and /dev/null is the host's.
  bool own_stdin = false;
  bool sandboxed = false;  // The runtime's sandbox holds the process: Start it by the monitor.
  std::vector<std::string> environment = {};  // "NAME=value", besides what every runtime gets.
  std::string cgroup;  // The monitors' cgroup ("/crisp-monitors"), made by the caller; empty: ours.
  int oom_score_adj = -998;
};

// A monitor whose container is not yet acknowledged: dropping it makes the monitor kill and delete
// what it made and end (by itself, later: Abandon waits for that). For one thread.
class NewMonitor {
 public:
  // Starts the monitor and returns once it holds its lock, is in its cgroup and listens. Nothing of
  // the container exists yet. UNKNOWN with the monitor's words when it cannot.
  static absl::StatusOr<NewMonitor> Launch(const Context& ctx, const base::Launcher& launcher,
                                           const MonitorSpec& spec);
  NewMonitor(NewMonitor&&) = default;
  NewMonitor& operator=(NewMonitor&&) = default;

  // Lets it run `RUNTIME create` and returns the pid of the container's init, which waits for
  // `start`. UNKNOWN with the runtime's last words when that fails; nothing is left then. On the
  // context's deadline or cancellation returns that status: call Abandon.
  absl::StatusOr<pid_t> Create(const Context& ctx);

  // The container is recorded: the monitor and it now live on without this object and the daemon.
  absl::Status Acknowledge();

  // Undoes, and waits until the monitor has ended and nothing of the container is left.
  absl::Status Abandon(const Context& ctx);

  pid_t monitor_pid() const { return monitor_pid_; }

 private:
  NewMonitor(base::UniqueFd handshake, std::string state_dir)
      : handshake_(std::move(handshake)), state_dir_(std::move(state_dir)) {}

  base::UniqueFd handshake_;
  std::string state_dir_;
  pid_t monitor_pid_ = -1;
};

// How a container ended, as its monitor saw it.
struct ExitRecord {
  int code = 255;
  int signal = 0;
  int64_t oom_kills = 0;
  absl::Time time;
  int64_t dropped_lines = 0;
};

struct MonitorState {
  uint32_t version = 0;
  pid_t pid = -1;  // Of the container's init.
  pid_t monitor_pid = -1;
  int64_t dropped_lines = 0;
  int log_error = 0;  // errno of the last failed write to the log; 0 when it went well.
  int64_t oom_kills = 0;
  bool terminal = false;
  bool stdin_open = false;
  bool init_exited = false;  // Output is still being drained; the exit file comes within 2 s.
};

// A connection to a running monitor. For one thread at a time; watching fd() elsewhere is fine.
class MonitorConnection {
 public:
  // Connects and takes in the state. NOT_FOUND when no monitor listens there (it ended: ReadExit).
  static absl::StatusOr<MonitorConnection> Connect(const Context& ctx,
                                                   const std::string& state_dir);
  MonitorConnection(MonitorConnection&&) = default;
  MonitorConnection& operator=(MonitorConnection&&) = default;

  // For epoll: POLLHUP (EPOLLHUP, EPOLLRDHUP) when the monitor has ended, after it wrote the exit
  // file. Ask for EPOLLRDHUP alone, not EPOLLIN: a last message is sent before the end. Owned by
  // this object.
  int fd() const { return fd_.get(); }
  // Of the container's init: signals by it never hit another process. Owned by this object; -1 when
  // the monitor had none.
  int pidfd() const { return pidfd_.get(); }
  // As of Connect or the last RefreshState.
  const MonitorState& state() const { return state_; }

  absl::Status RefreshState(const Context& ctx);
  // When it returns OK the old file is closed and the new one exists; else the old one stays in
  // use.
  absl::Status ReopenLog(const Context& ctx, const std::string& path);
  // Runs the runtime's `start` for a sandboxed container; UNKNOWN with its last words when that
  // fails, and the monitor ends then.
  absl::Status Start(const Context& ctx);
  // Lets a sandboxed container end that was not started: nothing of it can be killed yet.
  absl::Status GiveUp(const Context& ctx);
  // FAILED_PRECONDITION when the container has no terminal.
  absl::Status Resize(const Context& ctx, uint32_t width, uint32_t height);
  // Turns the connection into an attach session: `streams` is a set of conmon::StreamFlag.
  // RESOURCE_EXHAUSTED when too many are attached.
  absl::Status Attach(const Context& ctx, uint32_t streams);

  // Gives the descriptor away (to the streaming server); this object is empty then.
  base::UniqueFd Release() { return std::move(fd_); }

 private:
  MonitorConnection(base::UniqueFd fd, std::string state_dir)
      : fd_(std::move(fd)), state_dir_(std::move(state_dir)) {}
  absl::Status ReceiveState(const Context& ctx, uint32_t sequence);
  absl::Status Request(const Context& ctx, conmon::MessageType type, std::string_view payload,
                       std::string_view what);

  base::UniqueFd fd_;
  std::string state_dir_;
  base::UniqueFd pidfd_;
  MonitorState state_;
  uint32_t sequence_ = 0;
};

// The container's exit: nothing while there is none, DATA_LOSS when the file is damaged.
absl::StatusOr<std::optional<ExitRecord>> ReadExit(const std::string& state_dir);
// The text of an exit file; DATA_LOSS when it is none.
absl::StatusOr<ExitRecord> ParseExitRecord(std::string_view text);

// Whether a monitor holds the lock in `state_dir` now.
bool MonitorAlive(const std::string& state_dir);

// Waits until no monitor runs in `state_dir` and takes its lock, so that none can start there while
// the result lives. Creates the lock file if there is none; NOT_FOUND when the directory is
// missing.
absl::StatusOr<base::UniqueFd> TakeMonitorLock(const Context& ctx, const std::string& state_dir);

}  // namespace runtimeservice
