// What one test program needs around its daemon: test/environment's directories, a registry with
// the test images, and the daemon itself.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/subprocess.h"

namespace test {

// Calls `condition` every few milliseconds until it holds (true) or `timeout` passed (false).
bool Eventually(const std::function<bool()>& condition, absl::Duration timeout = absl::Seconds(20));

// A docker-registry on loopback with the images of `test/images/make basic`. It ends with this
// object or with this process, however that ends.
class Registry {
 public:
  static absl::StatusOr<Registry> Start();

  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }

 private:
  Registry(base::Subprocess server, base::UniqueFd life, std::string address)
      : server_(std::move(server)), life_(std::move(life)), address_(std::move(address)) {}

  base::Subprocess server_;
  base::UniqueFd life_;  // The server ends when this is closed.
  std::string address_;
};

// The directories, network and cgroup of one daemon; removed with everything in them, processes and
// mounts included, when this object goes.
class Environment {
 public:
  // `runtime` is the default OCI runtime: "crun" or "runc".
  static absl::StatusOr<Environment> Create(const std::string& registry_address,
                                            const std::string& runtime);
  Environment(Environment&&) = default;
  ~Environment();

  // A value that `test/environment create` printed, such as "SOCKET"; empty if there is none.
  std::string Get(std::string_view name) const;
  const std::string& name() const { return name_; }

  // Replaces `from` by `to` in the daemon's configuration, which must contain it.
  absl::Status EditConfig(std::string_view from, std::string_view to) const;

 private:
  explicit Environment(std::map<std::string, std::string, std::less<>> values);

  std::map<std::string, std::string, std::less<>> values_;
  std::string name_;  // Empty: moved away.
};

// `crisp serve` as a child that dies with this process.
class Daemon {
 public:
  explicit Daemon(const Environment& environment);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Starts it and returns once it answers; UNAVAILABLE with its last words when it ends instead.
  absl::Status Start();
  // Starts it without waiting for an answer.
  absl::Status Launch();
  // SIGKILL, as a crash.
  absl::Status Crash();
  // SIGTERM; the way it ended. DEADLINE_EXCEEDED when it takes longer than 30 s.
  absl::StatusOr<base::ExitState> Stop();
  // Waits until it ends by itself.
  absl::StatusOr<base::ExitState> WaitForEnd();

  bool running() const { return process_.has_value(); }
  pid_t pid() const { return process_ ? process_->pid() : -1; }
  // Everything it wrote so far, over all starts.
  std::string Log() const;

 private:
  const std::string config_;
  const std::string socket_;
  const std::string log_path_;
  std::optional<base::Subprocess> process_;
};

// Runs a program of the host to its end with PATH set; its standard output, or UNKNOWN with its
// standard error when it exits with another code than 0.
absl::StatusOr<std::string> RunProgram(const std::vector<std::string>& argv);

// Path of `name` in the source tree, and of a program that this build made.
std::string SourcePath(std::string_view name);
std::string ProgramPath(std::string_view name);

}  // namespace test
