// The verbs of crisp-init. Each gets the arguments after its name and returns the exit status.
#pragma once

namespace conmon {

inline constexpr char kInit[] = "crisp-init";
inline constexpr int kUsageError = 2;
inline constexpr int kLimitReached = 3;  // Of Hold, for a limit below /proc/sys/user.

// Unshares namespaces and keeps them until standard input ends or a signal comes.
int Hold(int argc, char** argv);
// The init of a PID namespace: reaps until SIGTERM or SIGINT.
int Pause(int argc, char** argv);
// Runs an OCI runtime that leaves a process behind, and ends as that process does; as the runtime
// did when that failed.
int Exec(int argc, char** argv);
// Gives itself the limits, signals and cgroups of a fresh program and becomes that program.
int Run(int argc, char** argv);

}  // namespace conmon
