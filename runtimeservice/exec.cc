// ExecSync: a command in a running container, its output and its exit code.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/undo.h"
#include "runtimeservice/requests.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/resources.h"
#include "runtimeservice/streaming/exec_files.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxOutput = 16 << 20;

// As a container has it that was made with a terminal: editors and pagers ask for it.
void SetDefaultTerm(base::Json* process) {
  base::Json& environment = (*process)["env"];
  const bool is_set =
      std::any_of(environment.begin(), environment.end(), [](const base::Json& entry) {
        return entry.is_string() && entry.get_ref<const std::string&>().starts_with("TERM=");
      });
  if (!is_set) {
    environment.push_back("TERM=xterm");
  }
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
  RETURN_IF_ERROR(base::ReplaceFile(directory + streaming::kContainerFile, container->id.str(),
                                    0600, base::Durability::kVolatile));
  const std::vector<std::string> cmd(request.cmd().begin(), request.cmd().end());
  ASSIGN_OR_RETURN(const std::string process, ExecProcess(*container, cmd, Terminal::kNo));
  RETURN_IF_ERROR(base::ReplaceFile(directory + streaming::kProcessFile, process, 0600,
                                    base::Durability::kVolatile));
  const ExecSpec spec = ExecSpecIn(directory, *container, Terminal::kNo);
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

absl::StatusOr<std::string> RuntimeService::ExecProcess(const Container& container,
                                                        const std::vector<std::string>& cmd,
                                                        Terminal terminal) const {
  ASSIGN_OR_RETURN(const std::string text,
                   base::ReadFile(paths_.Container(container.id) + "/config.json"));
  ASSIGN_OR_RETURN(const base::Json spec, base::ParseJson(text));
  base::Json process = base::JsonMember(spec, "process");
  process["args"] = base::Json(cmd);
  process["terminal"] = terminal == Terminal::kYes;
  if (terminal == Terminal::kYes) {
    SetDefaultTerm(&process);
  }
  if (container.run.has_resources()) {
    ASSIGN_OR_RETURN(process["oomScoreAdj"], OomScoreAdj(container.run.resources(), host_));
  }
  process.erase("consoleSize");
  return base::DumpJson(process);
}

ExecSpec RuntimeService::ExecSpecIn(const std::string& directory, const Container& container,
                                    Terminal terminal) const {
  return {
      .process_file = directory + streaming::kProcessFile,
      .pid_file = directory + streaming::kPidFile,
      .log_file = directory + streaming::kLogFile,
      .inner_pid_file = container.record.sandboxed() ? directory + streaming::kInnerPidFile : "",
      .console_socket = terminal == Terminal::kYes ? directory + streaming::kConsoleSocket : "",
      .waiter = config_.init_path,
      .oom_score_adj = static_cast<int>(container.Resources().oom_score_adj())};
}

}  // namespace runtimeservice
