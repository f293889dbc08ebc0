// Child processes: posix_spawn and a pidfd, waited for with a deadline, killed when dropped.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/unique_fd.h"

namespace base {

// A program to run. Nothing is inherited but what is named here.
struct Command {
  std::vector<std::string> argv;  // argv[0] is the path of the program; no PATH look-up.
  std::vector<std::string> env;   // "NAME=value"; the child has no other.
  std::string directory;          // Working directory; empty: ours.
  int stdin_fd = -1;              // -1: /dev/null, for each of the three.
  int stdout_fd = -1;
  int stderr_fd = -1;
  // Further descriptors: (number in the child, our descriptor). Numbers from 3 on.
  std::vector<std::pair<int, int>> extra_fds;
};

// How a process ended.
struct ExitState {
  int code = 0;    // Its exit status, 0 to 255; 128 + signal when a signal ended it.
  int signal = 0;  // The signal that ended it, 0 if none.
};

// Owns a child: dropping it kills and reaps the child unless it was waited for or detached.
class Subprocess {
 public:
  static absl::StatusOr<Subprocess> Spawn(const Command& command);
  Subprocess(Subprocess&& other) noexcept;
  Subprocess& operator=(Subprocess&& other) noexcept;
  ~Subprocess();

  pid_t pid() const { return pid_; }
  // Readable once the child has ended. Owned by this object.
  int pidfd() const { return pidfd_.get(); }

  // Waits for the end and reaps. On the context's deadline or cancellation kills the child, and its
  // process group if it leads one, with SIGKILL and returns that status; a child that then does not
  // die within a second (D state) is left to a reaper thread.
  absl::StatusOr<ExitState> Wait(const Context& ctx);
  // Sends `signal`; OK if the child has ended.
  absl::Status Kill(int signal);
  // Reaps now if the child has ended; returns whether it had.
  bool TryReap(ExitState* state);
  // The child lives on and becomes somebody else's; a zombie of it stays ours until we end.
  void Detach();

 private:
  Subprocess(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  void KillAndReap();

  pid_t pid_ = -1;  // -1: nothing owned.
  UniqueFd pidfd_;
};

// What a command said and how it ended.
struct CommandResult {
  ExitState exit;
  std::string out;
  std::string err;
};

// Runs `command` to its end with `input` as its stdin (a file in memory), collecting at most
// `max_output` bytes of each stream (the rest is read and dropped). Output that a grandchild holds
// open after the end is not waited for. Deadline and cancellation kill it, as in Subprocess::Wait.
// The three descriptors in `command` must be unset. A non-zero exit is not an error here.
absl::StatusOr<CommandResult> RunCommand(const Context& ctx, const Command& command,
                                         std::string_view input = "", size_t max_output = 1 << 20);

}  // namespace base
