#include "runtimeservice/streaming/exec_process.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "base/json_log.h"
#include "base/log.h"
#include "base/process_stat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/streaming/exec_files.h"

namespace streaming {
namespace {

constexpr size_t kMaxRuntimeLog = 1 << 20;
constexpr size_t kMaxRuntimeWords = 4096;

// The process object, with the size that its terminal begins with.
std::string WithSize(const std::string& process, std::optional<WindowSize> size) {
  absl::StatusOr<base::Json> object = base::ParseJson(process);
  if (!size.has_value() || !object.ok() || !object->is_object()) {
    return process;
  }
  (*object)["consoleSize"] = {{"height", size->height}, {"width", size->width}};
  return base::DumpJson(*object);
}

}  // namespace

ExecProcess::ExecProcess(asio::io_context& loop, const stream::ExecSession& session)
    : loop_(loop),
      session_(session),
      waiter_end_(loop),
      container_end_(loop),
      input_(loop),
      output_(loop),
      error_output_(loop),
      console_(loop) {}

ExecProcess::~ExecProcess() {
  waiter_.reset();
  RemoveFiles();
}

absl::Status ExecProcess::Start(std::optional<WindowSize> size) {
  RETURN_IF_ERROR(WatchContainer());
  RETURN_IF_ERROR(MakeFiles(size));
  base::Command command;
  command.argv.assign(session_.argv().begin(), session_.argv().end());
  command.env.assign(session_.environment().begin(), session_.environment().end());
  command.directory = "/";
  Pipe in;
  Pipe out;
  Pipe error;
  RETURN_IF_ERROR(MakePipes(&command, &in, &out, &error));
  // Ours before there is a command: what fails then leaves none behind.
  const bool has_input = session_.stdin() && !session_.tty();
  if (has_input) {
    input_ = Adopt(loop_, std::move(in.write_end));
  } else {
    in.write_end.Reset();
  }
  output_ = Adopt(loop_, std::move(out.read_end));
  error_output_ = Adopt(loop_, std::move(error.read_end));
  if (!output_.is_open() || (!session_.tty() && !error_output_.is_open()) ||
      (has_input && !input_.is_open())) {
    return absl::ResourceExhaustedError("watch the command's pipes: no room");
  }
  ASSIGN_OR_RETURN(base::Subprocess waiter, base::Subprocess::Spawn(command));
  waiter_.emplace(std::move(waiter));
  waiter_end_ = Adopt(loop_, base::UniqueFd(fcntl(waiter_->pidfd(), F_DUPFD_CLOEXEC, 0)));
  return waiter_end_.is_open() ? absl::OkStatus() : base::ErrnoStatus(EMFILE, "watch the command");
}

absl::Status ExecProcess::WatchContainer() {
  if (session_.init_pid() <= 0) {
    return absl::OkStatus();
  }
  // The descriptor first: then the start time tells whether it is that process's.
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, session_.init_pid(), 0)));
  if (ContainerEnded()) {
    return absl::FailedPreconditionError(
        base::StrCat("container ", session_.container_id(), " has ended"));
  }
  container_end_ = Adopt(loop_, std::move(pidfd));
  return absl::OkStatus();
}

absl::Status ExecProcess::MakeFiles(std::optional<WindowSize> size) {
  const std::string& folder = session_.folder();
  if (mkdir(folder.c_str(), 0700) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("make ", folder));
  }
  files_made_ = true;
  // Whose command it is comes first: from then on whoever finds the folder can end it.
  RETURN_IF_ERROR(base::ReplaceFile(folder + kContainerFile, session_.container_id(), 0600,
                                    base::Durability::kVolatile));
  RETURN_IF_ERROR(base::ReplaceFile(folder + kProcessFile, WithSize(session_.process(), size), 0600,
                                    base::Durability::kVolatile));
  return session_.tty() ? console_.Listen(loop_, folder + kConsoleSocket) : absl::OkStatus();
}

absl::Status ExecProcess::MakePipes(base::Command* command, Pipe* in, Pipe* out, Pipe* error) {
  // Without input it reads the end of a pipe and not /dev/null: runtimes give the standard
  // descriptors to the container's user, and that would be the host's device.
  ASSIGN_OR_RETURN(*in, MakePipe());
  ASSIGN_OR_RETURN(*out, MakePipe());
  command->stdin_fd = in->read_end.get();
  command->stdout_fd = out->write_end.get();
  command->stderr_fd = out->write_end.get();
  if (!session_.tty()) {
    ASSIGN_OR_RETURN(*error, MakePipe());
    command->stderr_fd = error->write_end.get();
  }
  return absl::OkStatus();
}

Task<> ExecProcess::WaitForEnd() { co_await Readable(waiter_end_); }

CommandResult ExecProcess::Result() {
  CommandResult result;
  base::ExitState state;
  if (!waiter_.has_value() || !waiter_->TryReap(&state)) {
    result.status = absl::InternalError(
        base::StrCat("exec in container ", session_.container_id(), ": its end was not seen"));
    return result;
  }
  waiter_.reset();
  const std::string words = state.code == 0 ? "" : RuntimeWords();
  RemoveFiles();  // Its client may take long: the pid in them may be another process's by then.
  if (!words.empty()) {
    // Of a container that goes meanwhile a runtime says something else each time.
    result.status =
        absl::UnknownError(base::StrCat("exec in container ", session_.container_id(),
                                        ContainerEnded() ? ": it has ended: " : ": ", words));
    return result;
  }
  result.exit_code = state.code;
  return result;
}

// Why the runtime failed; empty when the exit code is the command's own.
std::string ExecProcess::RuntimeWords() {
  const absl::StatusOr<std::string> log =
      base::ReadFile(session_.folder() + kLogFile, kMaxRuntimeLog);
  std::string words = base::LastLogError(log.value_or(""));
  if (words.empty() && session_.tty() && !console_.handed_over()) {
    words.resize(kMaxRuntimeWords);
    words.resize(ReadNow(output_, words).value_or(0));
    words.resize(words.find_last_not_of("\r\n ") + 1);
  }
  return words;
}

Task<> ExecProcess::WaitForContainerEnd() {
  if (container_end_.is_open()) {
    co_await Readable(container_end_);
  }
}

bool ExecProcess::ContainerEnded() const {
  if (session_.init_pid() <= 0) {
    return false;
  }
  const absl::StatusOr<base::ProcessStat> init = base::ReadProcessStat(session_.init_pid());
  return !init.ok() || init->ended ||
         (session_.init_start_time() != 0 && init->start_time != session_.init_start_time());
}

void ExecProcess::StopWatching() {
  Error ignored;
  container_end_.close(ignored);
}

// The record goes last, and of it the container's name first: a folder that is found without it
// names no command, and without pid file any stranger in the container could be meant.
void ExecProcess::RemoveFiles() {
  if (!std::exchange(files_made_, false)) {
    return;
  }
  for (const char* name :
       {kConsoleSocket, kProcessFile, kLogFile, kInnerPidFile, kContainerFile, kPidFile}) {
    base::RemoveFile(session_.folder() + name).IgnoreError();
  }
  const absl::Status removed = base::RemoveTree(session_.folder());
  if (!removed.ok()) {
    base::LogWarning(base::ToStd(removed.message()));
  }
}

}  // namespace streaming
