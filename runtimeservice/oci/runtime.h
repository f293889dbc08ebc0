// The command line of an OCI runtime (crun, runc, …): one function per command, errors in its
// words.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/json.h"
#include "base/launcher.h"
#include "base/subprocess.h"

namespace runtimeservice {

using base::Context;

// One configured runtime.
struct RuntimeConfig {
  std::string path;  // "/usr/bin/crun".
  std::string root;  // Its state directory (--root), on tmpfs.
  bool systemd_cgroup = false;
  std::vector<std::string> extra_arguments;  // Further global options.
};

// What `state` says.
struct RuntimeState {
  std::string status;  // "creating", "created", "running", "stopped", "paused".
  pid_t pid = 0;       // 0 when stopped.
};

enum class KillScope { kInit, kAll };

// One `exec`: the files of it belong to the caller.
struct ExecSpec {
  std::string process_file;    // An OCI process object.
  std::string pid_file;        // Gets the pid of the started process.
  std::string log_file;        // Gets the runtime's own words: ExecError.
  std::string inner_pid_file;  // Gets its pid within the sandbox; empty for other runtimes.
  std::string console_socket;  // Empty unless the process has a terminal.
  // crisp-init: the runtime goes once the process runs, and this waits for it. Without it the
  // runtime stays, runc until every copy of the output is closed.
  std::string waiter;
  int oom_score_adj = 0;  // The container's.
  std::string cgroup;     // As of base::Launcher::Options.
};

// Immutable after construction; thread-safe. Every call is a process of its own that ends with the
// context's deadline or cancellation (then that status). Failures of the runtime are UNKNOWN with
// the last error of its log, else its standard error.
class Runtime {
 public:
  // `launcher` must outlive this object.
  Runtime(RuntimeConfig config, const base::Launcher& launcher)
      : config_(std::move(config)), launcher_(launcher) {}

  const RuntimeConfig& config() const { return config_; }

  // Runs the program of a created container.
  absl::Status Start(const Context& ctx, const std::string& id) const;
  // Signals the init, or all processes (a SIGKILL of all takes the whole cgroup).
  // FAILED_PRECONDITION when it does not run or does not exist.
  absl::Status Kill(const Context& ctx, const std::string& id, int signal, KillScope scope) const;
  // SIGKILLs one process of a sandbox, by its number there. OK when there is no such process.
  absl::Status KillInside(const Context& ctx, const std::string& id, pid_t pid) const;
  // Kills and deletes. OK when the runtime knows no such container.
  absl::Status Delete(const Context& ctx, const std::string& id) const;
  // Changes the limits of a created or running container: `resources` is what linux.resources of
  // config.json would be; what it does not name stays.
  absl::Status Update(const Context& ctx, const std::string& id,
                      const base::OrderedJson& resources) const;
  // NOT_FOUND when the runtime knows no such container.
  absl::StatusOr<RuntimeState> State(const Context& ctx, const std::string& id) const;
  // The runtime's features (OCI runtime-spec, features.md); null for a runtime without that
  // command.
  absl::StatusOr<base::Json> Features(const Context& ctx) const;
  // First line of `--version`, such as "crun version 1.8.1".
  absl::StatusOr<std::string> Version(const Context& ctx) const;

  // The command of an exec, for the caller to spawn with its own descriptors and poll loop.
  base::Command ExecCommand(const std::string& id, const ExecSpec& spec) const;
  // Why an exec's runtime failed: the last error in its log file. Empty when there is none, which
  // means that the exit status is the process's own.
  static std::string ExecError(const std::string& log_file);

  // What MonitorSpec::runtime wants: the runtime with its global options, started cleanly.
  std::vector<std::string> MonitorCommand() const;

 private:
  std::vector<std::string> GlobalArguments() const;
  absl::StatusOr<base::CommandResult> Run(const Context& ctx, std::vector<std::string> arguments,
                                          std::string* last_error,
                                          std::string_view input = "") const;

  const RuntimeConfig config_;
  const base::Launcher& launcher_;
};

// Whether a runtime with this first line of `--version` knows the mount option rro although it has
// no `features` to say so: crun from 1.4 to 1.8.5. (runc has both since 1.1.)
bool KnowsRecursiveReadOnly(std::string_view version);

// The version that config.json may claim for a runtime with these `features` (null: unknown): the
// newest that crisp writes, or the newest that the runtime takes if that is older.
std::string SpecVersion(const base::Json& features);

// What every runtime gets as environment.
std::vector<std::string> RuntimeEnvironment();

}  // namespace runtimeservice
