// The container as its monitor sees it: its stdio, its birth by the OCI runtime, its death.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "conmon/options.h"
#include "conmon/system.h"

namespace conmon {

// How the init ended.
struct Exit {
  int code = 255;
  int signal = 0;
  uint32_t oom_kills = 0;
  int64_t time_ns = 0;
};

class Container {
 public:
  // `state_dir` is open on options.state_dir. `scratch`, of kScratchSize, holds nothing between
  // calls. All outlive this object.
  Container(const Options& options, int state_dir, int signal_fd, char* scratch)
      : options_(options), state_dir_(state_dir), signal_fd_(signal_fd), scratch_(scratch) {}
  static constexpr size_t kScratchSize = 8192;

  // Runs `RUNTIME create`. False: it failed (`failure` is why, `exit_status` the runtime's, or -1)
  // or the daemon hung up; nothing is undone yet.
  bool Create(int handshake_fd);
  // Kills every process that was started and deletes the container.
  void Undo();

  // For a runtime that keeps the process in a sandbox (options.sandboxed): it takes the standard
  // descriptors at `start` and alone knows how the process ends, so that `wait` is run as well for
  // as long as it lives. 0 or an errno: see kStart. Blocks while the runtime starts it.
  int StartSandboxed();
  // The container is not started any more: it ends as if killed. 0 or an errno: see kGiveUp.
  int GiveUp();

  int exit_status() const { return exit_status_; }
  Text<1024>& failure() { return failure_; }

  // Reaps all children that have ended; the init's end is recorded in exit().
  void Reap();
  // Records the end of an init that is not our child, seen by foreign_pidfd().
  void InitVanished();
  int foreign_pidfd() const { return foreign_ && !exited_ && waiter_ < 0 ? pidfd_ : -1; }
  bool exited() const { return exited_; }
  const Exit& exit() const { return exit_; }

  // Reads the counter of OOM kills; cheap enough for every sign of news.
  void ReadOomKills();
  uint32_t oom_kills() const { return oom_kills_; }

  void CloseStdin();
  void CloseOutput(int* fd);

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_; }
  int oom_fd() const { return oom_fd_; }
  // With a terminal stdout_fd is its master, and stdin_fd too (if there is a stdin).
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;

 private:
  bool OpenStdio(int child[3]);
  bool ListenForConsole();
  void ReceiveConsole();
  bool TakeTerminal();
  pid_t Fork();
  void BecomeRuntime(const char* const* rest, size_t count, const int stdio[3]) const;
  void BecomeCreate(const int stdio[3]) const;
  bool WaitForCreate(pid_t runtime, int handshake_fd);
  void DiscardOutput();
  bool ReadPid();
  void OpenOomCounter();
  bool RunStart();
  void BecomeStart() const;
  bool RunWaiter();
  void WaiterEnded();
  void KillChildren();
  bool WaitFor(pid_t child, int64_t deadline);
  bool Fail(const char* what, int error);

  const Options& options_;
  const int state_dir_;
  const int signal_fd_;
  char* const scratch_;
  pid_t pid_ = -1;
  int pidfd_ = -1;
  int oom_fd_ = -1;
  uint32_t oom_kills_ = 0;
  bool out_of_memory_ = false;  // Its memory ran out, whether or not that was followed by a kill.
  bool oom_lost_ = false;       // The file went with the cgroup.
  int console_listener_ = -1;
  int console_ = -1;
  int terminal_ = -1;
  bool runtime_ran_ = false;
  bool foreign_ = false;               // The init is not our child: nobody tells us its exit code.
  int start_stdio_[3] = {-1, -1, -1};  // For `start`, until it has run.
  bool start_due_ = false;
  pid_t waiter_ = -1;  // Runs `wait`.
  int waiter_output_ = -1;
  bool exited_ = false;
  Exit exit_;
  int exit_status_ = -1;
  Text<1024> failure_;
};

}  // namespace conmon
