#include "runtimeservice/oci/runtime.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/json_log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace runtimeservice {
namespace {

using base::StrCat;

constexpr size_t kMaxLog = 1 << 20;

std::string Trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
    text.pop_back();
  }
  return text;
}

// What a failed command has to say for itself.
std::string Words(const base::CommandResult& result, const std::string& last_error) {
  if (!last_error.empty()) {
    return last_error;
  }
  std::string words = Trimmed(result.err);
  if (!words.empty()) {
    return words;
  }
  return result.exit.signal != 0 ? StrCat("killed by signal ", result.exit.signal)
                                 : StrCat("exit status ", result.exit.code);
}

}  // namespace

std::string SpecVersion(const base::Json& features) {
  // What runtimes without `features` take; and the version of the fields that are ever written.
  constexpr char kOldest[] = "1.0.2";
  constexpr char kNewest[] = "1.3.0";
  const std::string max = base::JsonString(features, "ociVersionMax").value_or("");
  const auto numbers = [](std::string_view version) {
    std::array<int, 3> parts = {};
    const std::vector<absl::string_view> texts =
        absl::StrSplit(base::ToAbsl(version.substr(0, version.find_first_of("-+"))), '.');
    for (size_t i = 0; i < parts.size() && i < texts.size(); ++i) {
      if (!absl::SimpleAtoi(texts[i], &parts[i])) {
        return std::array<int, 3>();
      }
    }
    return parts;
  };
  const std::array<int, 3> known = numbers(max);
  if (known <= numbers(kOldest)) {
    return kOldest;
  }
  return known >= numbers(kNewest) ? kNewest : StrCat(known[0], ".", known[1], ".", known[2]);
}

std::vector<std::string> RuntimeEnvironment() {
  return {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
}

std::vector<std::string> Runtime::GlobalArguments() const {
  std::vector<std::string> argv = {config_.path};
  if (!config_.root.empty()) {
    argv.insert(argv.end(), {"--root", config_.root});
  }
  if (config_.systemd_cgroup) {
    argv.emplace_back("--systemd-cgroup");
  }
  argv.insert(argv.end(), config_.extra_arguments.begin(), config_.extra_arguments.end());
  return argv;
}

std::vector<std::string> Runtime::MonitorCommand() const {
  base::Command command;
  command.argv = GlobalArguments();
  base::Launcher::Options options;
  options.cgroup = "-";  // Stays with the monitor, which outlives the work cgroup's processes.
  return launcher_.Wrap(std::move(command), options).argv;
}

absl::StatusOr<base::CommandResult> Runtime::Run(const Context& ctx,
                                                 std::vector<std::string> arguments,
                                                 std::string* last_error,
                                                 std::string_view input) const {
  // The log is a file without a name: nothing is left of it after a crash.
  base::UniqueFd log(memfd_create("runtime-log", MFD_CLOEXEC));
  if (!log.valid()) {
    return base::ErrnoStatus(errno, "memfd_create");
  }
  base::Command command;
  command.argv = GlobalArguments();
  command.argv.insert(command.argv.end(), {"--log", "/proc/self/fd/3", "--log-format", "json"});
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  command.env = RuntimeEnvironment();
  command.directory = "/";
  command.extra_fds = {{3, log.get()}};
  ASSIGN_OR_RETURN(base::CommandResult result,
                   base::RunCommand(ctx, launcher_.Wrap(std::move(command)), input));
  lseek(log.get(), 0, SEEK_SET);
  *last_error = base::LastLogError(base::ReadFd(log.get(), "runtime log", kMaxLog).value_or(""));
  return result;
}

absl::Status Runtime::Start(const Context& ctx, const std::string& id) const {
  std::string last_error;
  ASSIGN_OR_RETURN(base::CommandResult result, Run(ctx, {"start", id}, &last_error));
  return result.exit.code == 0 ? absl::OkStatus()
                               : absl::UnknownError(StrCat("runtime: ", Words(result, last_error)));
}

absl::Status Runtime::Kill(const Context& ctx, const std::string& id, int signal,
                           KillScope scope) const {
  std::vector<std::string> arguments = {"kill"};
  if (scope == KillScope::kAll) {
    arguments.emplace_back("--all");
  }
  arguments.insert(arguments.end(), {id, StrCat(signal)});
  std::string last_error;
  ASSIGN_OR_RETURN(base::CommandResult result, Run(ctx, std::move(arguments), &last_error));
  if (result.exit.code == 0) {
    return absl::OkStatus();
  }
  // Its words do not tell reliably whether the process was gone: its state does.
  const std::string words = StrCat("runtime: ", Words(result, last_error));
  const absl::StatusOr<RuntimeState> state = State(ctx, id);
  if (absl::IsNotFound(state.status()) || (state.ok() && state->status == "stopped")) {
    return absl::FailedPreconditionError(words);
  }
  return absl::UnknownError(words);
}

absl::Status Runtime::KillInside(const Context& ctx, const std::string& id, pid_t pid) const {
  std::string last_error;
  // That it failed may as well mean that it was gone: there is nothing else to be done.
  return Run(ctx, {"kill", "--pid", StrCat(pid), id, "KILL"}, &last_error).status();
}

absl::Status Runtime::Delete(const Context& ctx, const std::string& id) const {
  std::string last_error;
  ASSIGN_OR_RETURN(base::CommandResult result, Run(ctx, {"delete", "--force", id}, &last_error));
  if (result.exit.code == 0) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(ctx.Check());
  if (absl::IsNotFound(State(ctx, id).status())) {
    return absl::OkStatus();
  }
  return absl::UnknownError(StrCat("runtime: ", Words(result, last_error)));
}

absl::Status Runtime::Update(const Context& ctx, const std::string& id,
                             const base::OrderedJson& resources) const {
  std::string last_error;
  // By path: that every runtime reads, "-" not.
  ASSIGN_OR_RETURN(base::CommandResult result,
                   Run(ctx, {"update", "--resources", "/proc/self/fd/0", id}, &last_error,
                       base::DumpJson(resources)));
  return result.exit.code == 0 ? absl::OkStatus()
                               : absl::UnknownError(StrCat("runtime: ", Words(result, last_error)));
}

absl::StatusOr<RuntimeState> Runtime::State(const Context& ctx, const std::string& id) const {
  std::string last_error;
  ASSIGN_OR_RETURN(base::CommandResult result, Run(ctx, {"state", id}, &last_error));
  if (result.exit.code != 0) {
    const std::string words = StrCat("runtime: ", Words(result, last_error));
    // The runtime specification asks for an error here and no more; the directory of its state is
    // what runc and crun agree on.
    const bool known = config_.root.empty() || base::Exists(StrCat(config_.root, "/", id));
    return known ? absl::UnknownError(words) : absl::NotFoundError(words);
  }
  absl::StatusOr<base::Json> json = base::ParseJson(result.out);
  RETURN_IF_ERROR(base::Annotate(json.status(), "runtime state"));
  RuntimeState state;
  ASSIGN_OR_RETURN(state.status, base::JsonString(*json, "status"));
  ASSIGN_OR_RETURN(int64_t pid, base::JsonInt(*json, "pid"));
  state.pid = static_cast<pid_t>(pid);
  return state;
}

absl::StatusOr<base::Json> Runtime::Features(const Context& ctx) const {
  std::string last_error;
  ASSIGN_OR_RETURN(base::CommandResult result, Run(ctx, {"features"}, &last_error));
  if (result.exit.code != 0) {
    return base::Json();
  }
  absl::StatusOr<base::Json> features = base::ParseJson(result.out);
  return features.ok() ? *std::move(features) : base::Json();
}

absl::StatusOr<std::string> Runtime::Version(const Context& ctx) const {
  base::Command command;
  command.argv = {config_.path, "--version"};
  command.env = RuntimeEnvironment();
  ASSIGN_OR_RETURN(base::CommandResult result,
                   base::RunCommand(ctx, launcher_.Wrap(std::move(command))));
  if (result.exit.code != 0) {
    return absl::UnknownError(StrCat(config_.path, " --version: ", Words(result, "")));
  }
  return result.out.substr(0, result.out.find('\n'));
}

base::Command Runtime::ExecCommand(const std::string& id, const ExecSpec& spec) const {
  base::Command command;
  if (!spec.waiter.empty()) {
    command.argv = {spec.waiter, "exec", "--pid-file", spec.pid_file, "--"};
  }
  const std::vector<std::string> runtime = GlobalArguments();
  command.argv.insert(command.argv.end(), runtime.begin(), runtime.end());
  command.argv.insert(command.argv.end(),
                      {"--log", spec.log_file, "--log-format", "json", "exec", "--process",
                       spec.process_file, "--pid-file", spec.pid_file});
  if (!spec.inner_pid_file.empty()) {
    command.argv.insert(command.argv.end(), {"--internal-pid-file", spec.inner_pid_file});
  }
  if (!spec.console_socket.empty()) {
    command.argv.insert(command.argv.end(), {"--console-socket", spec.console_socket});
  }
  if (!spec.waiter.empty()) {
    command.argv.emplace_back("--detach");
  }
  command.argv.push_back(id);
  command.env = RuntimeEnvironment();
  command.directory = "/";
  base::Launcher::Options options;
  options.oom_score_adj = spec.oom_score_adj;
  options.cgroup = spec.cgroup;
  return launcher_.Wrap(std::move(command), options);
}

std::string Runtime::ExecError(const std::string& log_file) {
  return base::LastLogError(base::ReadFile(log_file, kMaxLog).value_or(""));
}

bool KnowsRecursiveReadOnly(std::string_view version) {
  constexpr std::string_view kCrun = "crun version ";
  if (version.substr(0, kCrun.size()) != kCrun) {
    return false;
  }
  int major = 0;
  int minor = 0;
  return std::sscanf(std::string(version.substr(kCrun.size())).c_str(), "%4d.%4d", &major,
                     &minor) == 2 &&
         std::pair(major, minor) >= std::pair(1, 4);
}

}  // namespace runtimeservice
