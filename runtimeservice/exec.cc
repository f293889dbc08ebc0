// ExecSync: a command in a running container, its output and its exit code.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/undo.h"
#include "runtimeservice/requests.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/resources.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxOutput = 16 << 20;
constexpr int kUnnamedRounds = 20;  // Of 5 ms.

// Files of one exec, in a directory of its own: what a restart needs to end it.
constexpr char kContainerFile[] = "/container";
constexpr char kProcessFile[] = "/process.json";
constexpr char kPidFile[] = "/pid";
constexpr char kInnerPidFile[] = "/inner-pid";
constexpr char kLogFile[] = "/log";

std::optional<pid_t> ReadPid(const std::string& path) {
  const absl::StatusOr<std::string> text = base::ReadFile(path, 64);
  int pid = 0;
  if (!text.ok() || !absl::SimpleAtoi(*text, &pid) || pid <= 0) {
    return std::nullopt;
  }
  return pid;
}

// The parent of a process; 0 when it is gone.
pid_t ParentOf(pid_t pid) {
  const absl::StatusOr<std::string> stat = base::ReadFile(base::StrCat("/proc/", pid, "/stat"));
  if (!stat.ok()) {
    return 0;
  }
  // "pid (comm) state ppid …"; comm may hold anything, so look behind its last bracket.
  const std::vector<std::string> fields =
      absl::StrSplit(stat->substr(std::min(stat->rfind(')') + 2, stat->size())), ' ');
  int parent = 0;
  return fields.size() > 1 && absl::SimpleAtoi(fields[1], &parent) ? parent : 0;
}

}  // namespace

absl::StatusOr<cri::ExecSyncResponse> RuntimeService::ExecSync(
    const Context& ctx, const cri::ExecSyncRequest& request) {
  ASSIGN_OR_RETURN(const ContainerRef container,
                   registry_->ResolveContainer(request.container_id()));
  const base::LogField field("container", container->id.str());
  if (request.cmd_size() == 0) {
    return absl::InvalidArgumentError("cmd is empty");
  }
  if (request.timeout() < 0) {
    return absl::InvalidArgumentError("timeout is negative");
  }
  if (container->CriState() != cri::CONTAINER_RUNNING) {
    return absl::FailedPreconditionError(
        base::StrCat("exec in container ", container->id.str(), ": it is not running"));
  }
  const std::string directory = base::StrCat(paths_.Execs(), "/", base::RandomHex64());
  RETURN_IF_ERROR(base::MakeDirectories(directory, 0700));
  base::Undo files;
  files.Add([&] { base::RemoveTree(directory).IgnoreError(); });
  ASSIGN_OR_RETURN(const std::string process, WriteExecProcess(*container, request, directory));
  const ExecSpec spec{
      .process_file = process,
      .pid_file = directory + kPidFile,
      .log_file = directory + kLogFile,
      .inner_pid_file = container->record.sandboxed() ? directory + kInnerPidFile : "",
      .waiter = config_.init_path,
      .oom_score_adj = static_cast<int>(container->Resources().oom_score_adj())};
  const Context limited =
      request.timeout() == 0 ? ctx : ctx.WithTimeout(absl::Seconds(request.timeout()));
  const absl::StatusOr<base::CommandResult> result = base::RunCommand(
      limited, RuntimeOf(container->record).ExecCommand(container->id.str(), spec), "", kMaxOutput);
  if (!result.ok()) {
    // The runtime is dead; what it started in the container is not. A command that ended by itself
    // may leave children behind: hooks start background processes that way.
    KillExec(directory);
    if (absl::IsDeadlineExceeded(result.status()) && ctx.Check().ok()) {
      return absl::DeadlineExceededError(base::StrCat("exec in container ", container->id.str(),
                                                      ": the command did not end within ",
                                                      request.timeout(), " s"));
    }
    return base::Annotate(result.status(), base::StrCat("exec in container ", container->id.str()));
  }
  if (result->exit.code != 0) {
    const std::string error = Runtime::ExecError(spec.log_file);
    if (!error.empty()) {
      return absl::UnknownError(
          base::StrCat("exec in container ", container->id.str(), ": ", error));
    }
  }
  cri::ExecSyncResponse response;
  response.set_stdout(result->out);
  response.set_stderr(result->err);
  response.set_exit_code(result->exit.code);
  return response;
}

absl::StatusOr<std::string> RuntimeService::WriteExecProcess(const Container& container,
                                                             const cri::ExecSyncRequest& request,
                                                             const std::string& directory) const {
  RETURN_IF_ERROR(base::ReplaceFile(directory + kContainerFile, container.id.str(), 0600,
                                    base::Durability::kVolatile));
  ASSIGN_OR_RETURN(const std::string text,
                   base::ReadFile(paths_.Container(container.id) + "/config.json"));
  ASSIGN_OR_RETURN(const base::Json spec, base::ParseJson(text));
  base::Json process = base::JsonMember(spec, "process");
  process["args"] =
      base::Json(std::vector<std::string>(request.cmd().begin(), request.cmd().end()));
  process["terminal"] = false;
  if (container.run.has_resources()) {
    ASSIGN_OR_RETURN(process["oomScoreAdj"], OomScoreAdj(container.run.resources(), host_));
  }
  process.erase("consoleSize");
  const std::string path = directory + kProcessFile;
  RETURN_IF_ERROR(
      base::ReplaceFile(path, base::DumpJson(process), 0600, base::Durability::kVolatile));
  return path;
}

void RuntimeService::KillExec(const std::string& directory) const {
  const absl::StatusOr<std::string> text = base::ReadFile(directory + kContainerFile, 64);
  const absl::StatusOr<base::ContainerId> id =
      text.ok() ? base::ContainerId::Parse(*text) : text.status();
  const ContainerRef container = id.ok() ? registry_->FindContainer(*id) : nullptr;
  if (!container) {
    return;
  }
  if (container->record.sandboxed()) {
    if (const std::optional<pid_t> process = ReadPid(directory + kInnerPidFile)) {
      const absl::Status killed =
          RuntimeOf(container->record)
              .KillInside(Context::Detached(absl::Seconds(10)), id->str(), *process);
      if (!killed.ok()) {
        base::LogWarning(base::ToStd(killed.message()));
      }
    }
    return;
  }
  // Every exec has a session of its own, begun outside: its members are what it started. A runtime
  // that died before it could name the process may still be dying, so that case is looked at again.
  const std::string pid_file = directory + kPidFile;
  const Context limit = Context::Detached(absl::Seconds(10));
  bool left = true;
  for (int round = 0;
       (left || (round < kUnnamedRounds && !base::Exists(pid_file))) && limit.Check().ok();
       ++round) {
    const std::optional<pid_t> process = ReadPid(pid_file);
    std::set<pid_t> sessions =
        process.has_value() ? std::set<pid_t>{getsid(*process)} : EnteredSessions(*container);
    sessions.erase(-1);
    left = false;
    for (const pid_t pid : base::CgroupProcesses(container->record.cgroup())) {
      left = (sessions.contains(getsid(pid)) && kill(pid, SIGKILL) == 0) || left;
    }
    poll(nullptr, 0, left ? 1 : 5);
  }
}

std::set<pid_t> RuntimeService::EnteredSessions(const Container& container) const {
  const PodRef pod = registry_->FindPod(container.pod);
  if (pod == nullptr ||
      EffectiveNamespaces(pod->record.config(), container.record.config()).pid() == cri::NODE) {
    return {};  // There an orphan's parent is the host's init as well.
  }
  const std::vector<pid_t> processes = base::CgroupProcesses(container.record.cgroup());
  // Whose child is no stranger: processes of the container, the inits that orphans of the pod go
  // to, and the waiters of other execs that run.
  std::set<pid_t> parents(processes.begin(), processes.end());
  for (const ContainerRef& other : registry_->ContainersOf(container.pod)) {
    parents.insert(other->pid);
  }
  for (const pid_t helper : base::CgroupProcesses(uses_.launcher.work_cgroup())) {
    parents.insert(helper);
  }
  std::set<pid_t> sessions;
  for (const pid_t pid : processes) {
    if (pid != container.pid && !parents.contains(ParentOf(pid))) {
      sessions.insert(getsid(pid));
    }
  }
  sessions.erase(getsid(container.pid));
  return sessions;
}

void RuntimeService::RecoverExecs() {
  const absl::StatusOr<std::vector<std::string>> tokens = base::ListDirectory(paths_.Execs());
  if (!tokens.ok()) {
    return;
  }
  for (const std::string& token : *tokens) {
    const std::string directory = base::StrCat(paths_.Execs(), "/", token);
    KillExec(directory);
    if (const absl::Status removed = base::RemoveTree(directory); !removed.ok()) {
      base::LogWarning(base::ToStd(removed.message()));
    }
  }
}

}  // namespace runtimeservice
