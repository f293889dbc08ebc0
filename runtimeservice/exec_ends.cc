// The ends of commands in containers that nobody waits for any more: of an ExecSync, and of what a
// daemon or a crisp-stream that died has left.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/log.h"
#include "base/process_stat.h"
#include "base/strings.h"
#include "runtimeservice/requests.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/streaming/exec_files.h"

namespace runtimeservice {
namespace {

constexpr int kUnnamedRounds = 20;  // Of 5 ms.

std::optional<pid_t> ReadPid(const std::string& path) {
  const absl::StatusOr<std::string> text = base::ReadFile(path, 64);
  int pid = 0;
  if (!text.ok() || !absl::SimpleAtoi(*text, &pid) || pid <= 0) {
    return std::nullopt;
  }
  return pid;
}

}  // namespace

void RuntimeService::KillExec(const std::string& directory) const {
  const absl::StatusOr<std::string> text =
      base::ReadFile(directory + streaming::kContainerFile, 64);
  const absl::StatusOr<base::ContainerId> id =
      text.ok() ? base::ContainerId::Parse(*text) : text.status();
  const ContainerRef container = id.ok() ? registry_->FindContainer(*id) : nullptr;
  if (!container) {
    return;
  }
  if (container->record.sandboxed()) {
    if (const std::optional<pid_t> process = ReadPid(directory + streaming::kInnerPidFile)) {
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
  const std::string pid_file = directory + streaming::kPidFile;
  const Context limit = Context::Detached(absl::Seconds(10));
  bool left = true;
  for (int round = 0;
       (left || (round < kUnnamedRounds && !base::Exists(pid_file))) && limit.Check().ok();
       ++round) {
    const std::optional<pid_t> process = ReadPid(pid_file);
    std::set<pid_t> sessions =
        process.has_value() ? std::set<pid_t>{getsid(*process)} : EnteredSessions(*container);
    sessions.erase(-1);
    // That of no exec: the number of one that is over may have been given again.
    sessions.erase(getsid(container->pid));
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
  std::vector<std::string> helpers = streams_.Cgroups();
  helpers.push_back(uses_.launcher.work_cgroup());
  for (const std::string& cgroup : helpers) {
    for (const pid_t helper : base::CgroupProcesses(cgroup)) {
      parents.insert(helper);
    }
  }
  std::set<pid_t> sessions;
  for (const pid_t pid : processes) {
    const absl::StatusOr<base::ProcessStat> stat = base::ReadProcessStat(pid);
    if (pid != container.pid && stat.ok() && !parents.contains(stat->parent)) {
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
