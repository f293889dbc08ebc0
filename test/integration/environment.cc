#include "test/integration/environment.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "test/client/cri_client.h"

namespace test {
namespace {

constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

absl::StatusOr<std::pair<base::UniqueFd, base::UniqueFd>> Pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return base::ErrnoStatus(errno, "pipe2");
  return std::pair(base::UniqueFd(fds[0]), base::UniqueFd(fds[1]));
}

// The first line that comes out of `fd` within `timeout`.
absl::StatusOr<std::string> ReadLine(int fd, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  std::string line;
  while (true) {
    pollfd poller = {fd, POLLIN, 0};
    const auto left = static_cast<int>(absl::ToInt64Milliseconds(deadline - absl::Now()));
    if (left <= 0 || poll(&poller, 1, left) == 0) {
      return absl::DeadlineExceededError("no line came");
    }
    char c;
    if (read(fd, &c, 1) != 1) return absl::UnavailableError("it ended without a line");
    if (c == '\n') return line;
    line += c;
  }
}

}  // namespace

bool Eventually(const std::function<bool()>& condition, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    poll(nullptr, 0, 5);
  }
  return true;
}

std::string SourcePath(std::string_view name) {
  return base::StrCat(CRISP_SOURCE_DIRECTORY, "/", name);
}

std::string ProgramPath(std::string_view name) {
  return base::StrCat(CRISP_PROGRAM_DIRECTORY, "/", name);
}

absl::StatusOr<std::string> RunProgram(const std::vector<std::string>& argv) {
  base::Command command;
  // env(1) finds the program in PATH.
  command.argv = {"/usr/bin/env"};
  command.argv.insert(command.argv.end(), argv.begin(), argv.end());
  command.env = {kPath};
  ASSIGN_OR_RETURN(base::CommandResult result,
                   base::RunCommand(base::Context::Detached(absl::Seconds(120)), command));
  if (result.exit.code != 0) {
    return absl::UnknownError(base::ToAbsl(base::StrCat(argv[0], ": ", result.err, result.out)));
  }
  return result.out;
}

absl::StatusOr<Registry> Registry::Start() {
  ASSIGN_OR_RETURN(std::string images, RunProgram({SourcePath("test/images/make"), "basic"}));
  ASSIGN_OR_RETURN(auto life, Pipe());
  ASSIGN_OR_RETURN(auto answer, Pipe());
  base::Command command;
  command.argv = {SourcePath("test/images/serve"), std::string(absl::StripSuffix(images, "\n"))};
  command.env = {kPath};
  command.stdin_fd = life.first.get();
  command.stdout_fd = answer.second.get();
  command.stderr_fd = STDERR_FILENO;
  ASSIGN_OR_RETURN(base::Subprocess server, base::Subprocess::Spawn(command));
  answer.second.Reset();
  absl::StatusOr<std::string> address = ReadLine(answer.first.get(), absl::Seconds(30));
  if (!address.ok()) return base::Annotate(address.status(), "start the test registry");
  return Registry(std::move(server), std::move(life.second), *std::move(address));
}

Environment::Environment(std::map<std::string, std::string, std::less<>> values)
    : values_(std::move(values)), name_(Get("NAME")) {}

absl::StatusOr<Environment> Environment::Create(const std::string& registry_address,
                                                const std::string& runtime) {
  ASSIGN_OR_RETURN(
      const std::string text,
      RunProgram({SourcePath("test/environment"), "create", "--registry", registry_address,
                  "--runtime", runtime, "--owner", base::StrCat(getpid())}));
  std::map<std::string, std::string, std::less<>> values;
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> value = absl::StrSplit(line, absl::MaxSplits('=', 1));
    values.insert(value);
  }
  return Environment(std::move(values));
}

Environment::~Environment() {
  if (name_.empty()) return;
  const auto removed = RunProgram({SourcePath("test/environment"), "destroy", name_});
  if (!removed.ok()) fprintf(stderr, "%s\n", removed.status().ToString().c_str());
}

std::string Environment::Get(std::string_view name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? "" : found->second;
}

absl::Status Environment::EditConfig(std::string_view from, std::string_view to) const {
  ASSIGN_OR_RETURN(std::string text, base::ReadFile(Get("CONFIG")));
  const size_t at = text.find(from);
  if (at == std::string::npos) return absl::NotFoundError("not in the configuration");
  text.replace(at, from.size(), to);
  return base::ReplaceFile(Get("CONFIG"), text, 0644, base::Durability::kVolatile);
}

Daemon::Daemon(const Environment& environment)
    : config_(environment.Get("CONFIG")),
      socket_(environment.Get("SOCKET")),
      log_path_(base::StrCat(environment.Get("VAR"), "/crisp.log")) {}

Daemon::~Daemon() {
  if (running()) static_cast<void>(Crash());
}

absl::Status Daemon::Launch() {
  ASSIGN_OR_RETURN(base::UniqueFd log, base::Open(log_path_, O_WRONLY | O_CREAT | O_APPEND, 0644));
  base::Command command;
  // The daemon must not outlive a test that is killed.
  command.argv = {"/usr/bin/setpriv",
                  "--pdeathsig",
                  "KILL",
                  ProgramPath("crisp"),
                  "serve",
                  "--config",
                  config_,
                  "--config-dir",
                  ""};
  command.env = {kPath, "ASAN_OPTIONS=detect_leaks=0"};
  command.stdout_fd = log.get();
  command.stderr_fd = log.get();
  ASSIGN_OR_RETURN(process_, base::Subprocess::Spawn(command));
  return absl::OkStatus();
}

absl::Status Daemon::Start() {
  RETURN_IF_ERROR(Launch());
  const CriClient client(socket_);
  base::ExitState exit;
  for (int attempt = 0; attempt < 300; ++attempt) {
    if (process_->TryReap(&exit)) {
      process_.reset();
      return absl::UnavailableError(base::ToAbsl(
          base::StrCat("crisp ended with code ", exit.code, " at its start: ", Log())));
    }
    const auto answer =
        client.Call(&RuntimeStub::Version, cri::VersionRequest(), absl::Milliseconds(100));
    if (answer.ok()) return absl::OkStatus();
  }
  return absl::DeadlineExceededError(base::ToAbsl(base::StrCat("crisp does not answer: ", Log())));
}

absl::Status Daemon::Crash() {
  if (!running()) return absl::FailedPreconditionError("it does not run");
  RETURN_IF_ERROR(process_->Kill(SIGKILL));
  return WaitForEnd().status();
}

absl::StatusOr<base::ExitState> Daemon::Stop() {
  if (!running()) return absl::FailedPreconditionError("it does not run");
  RETURN_IF_ERROR(process_->Kill(SIGTERM));
  return WaitForEnd();
}

absl::StatusOr<base::ExitState> Daemon::WaitForEnd() {
  if (!running()) return absl::FailedPreconditionError("it does not run");
  auto exit = process_->Wait(base::Context::Detached(absl::Seconds(30)));
  process_.reset();
  return exit;
}

std::string Daemon::Log() const {
  auto text = base::ReadFile(log_path_, 64 << 20);
  return text.ok() ? *std::move(text) : text.status().ToString();
}

}  // namespace test
