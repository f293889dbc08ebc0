#include "base/cgroup.h"

#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

constexpr char kRoot[] = "/sys/fs/cgroup";

struct Hierarchy {
  std::string mount;
  std::vector<std::string> controllers;  // Empty for name=systemd and a hybrid host's v2 tree.
};

// The cgroup mounts of this mount namespace, from mountinfo, each file system once.
std::vector<Hierarchy> ReadHierarchies() {
  std::vector<Hierarchy> found;
  const absl::StatusOr<std::string> text = ReadFile("/proc/self/mountinfo");
  if (!text.ok()) {
    return found;
  }
  std::set<std::string> devices;
  for (const auto& line : absl::StrSplit(*text, '\n')) {
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) {
      continue;
    }
    const std::vector<std::string> left = absl::StrSplit(halves[0], ' ');
    const std::vector<std::string> right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 5 || right.size() < 3 || (right[0] != "cgroup" && right[0] != "cgroup2") ||
        left[4].rfind(kRoot, 0) != 0 || !devices.insert(left[2]).second) {
      continue;
    }
    Hierarchy hierarchy{.mount = left[4], .controllers = {}};
    if (right[0] == "cgroup") {
      for (const auto& option : absl::StrSplit(right[2], ',')) {
        const std::string name(option.data(), option.size());
        if (name != "rw" && name != "ro" && name.find('=') == std::string::npos) {
          hierarchy.controllers.push_back(name);
        }
      }
    }
    found.push_back(std::move(hierarchy));
  }
  return found;
}

const std::vector<Hierarchy>& Hierarchies() {
  static const auto* const hierarchies = new std::vector<Hierarchy>(ReadHierarchies());
  return *hierarchies;
}

std::string ParentOf(const std::string& directory) {
  return directory.substr(0, directory.rfind('/'));
}

// cpuset of v1: a cgroup without CPUs and memory nodes takes no process.
absl::Status InheritCpuset(const std::string& directory) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    const absl::StatusOr<std::string> own = ReadFile(directory + file);
    if (own.ok() && (own->empty() || *own == "\n")) {
      ASSIGN_OR_RETURN(const std::string parents, ReadFile(ParentOf(directory) + file));
      RETURN_IF_ERROR(WriteControlFile(directory + file, parents));
    }
  }
  return absl::OkStatus();
}

// v2: lets children of `directory` use every controller it has. What cannot be enabled (a
// controller in use elsewhere) is left out.
void EnableControllers(const std::string& directory) {
  const absl::StatusOr<std::string> available = ReadFile(directory + "/cgroup.controllers");
  if (!available.ok()) {
    return;
  }
  for (const auto& name : absl::StrSplit(*available, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
    WriteControlFile(directory + "/cgroup.subtree_control", StrCat("+", ToStd(name))).IgnoreError();
  }
}

absl::Status MakeIn(const std::string& mount, std::string_view path) {
  std::string directory = mount;
  // Which controllers the children of a slice have is systemd's to say.
  const bool in_slice = path.substr(0, path.find('/', 1)).ends_with(".slice");
  for (const auto& part : absl::StrSplit(ToAbsl(path), '/', absl::SkipEmpty())) {
    const bool systemds = in_slice && (directory == mount || directory.ends_with(".slice"));
    if (HostCgroupMode() == CgroupMode::kV2 && !systemds) {
      EnableControllers(directory);
    }
    directory += StrCat("/", ToStd(part));
    if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
      return ErrnoStatus(errno, StrCat("make the cgroup ", directory));
    }
    if (HostCgroupMode() == CgroupMode::kV1) {
      RETURN_IF_ERROR(InheritCpuset(directory));
    }
  }
  return absl::OkStatus();
}

void CollectProcesses(const std::string& directory, std::set<pid_t>* pids) {
  const absl::StatusOr<std::string> text = ReadFile(directory + "/cgroup.procs");
  if (text.ok()) {
    for (const auto& line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
      int pid = 0;
      if (absl::SimpleAtoi(line, &pid) && pid > 0) {
        pids->insert(pid);
      }
    }
  }
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory);
  if (!names.ok()) {
    return;
  }
  for (const std::string& name : *names) {
    struct stat info;
    const std::string child = StrCat(directory, "/", name);
    if (lstat(child.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
      CollectProcesses(child, pids);
    }
  }
}

// A moment, or until the context is cancelled.
void Rest(const Context& ctx) {
  pollfd cancelled = {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0};
  poll(&cancelled, 1, 2);
}

absl::Status RemoveIn(const Context& ctx, const std::string& directory) {
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory);
  if (absl::IsNotFound(names.status())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(names.status());
  for (const std::string& name : *names) {
    struct stat info;
    const std::string child = StrCat(directory, "/", name);
    if (lstat(child.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
      RETURN_IF_ERROR(RemoveIn(ctx, child));
    }
  }
  // A just killed process leaves its cgroup a moment after it can be reaped.
  while (rmdir(directory.c_str()) != 0 && errno != ENOENT) {
    if (errno != EBUSY || !ctx.Check().ok()) {
      return ErrnoStatus(errno, StrCat("remove the cgroup ", directory));
    }
    Rest(ctx);
  }
  return absl::OkStatus();
}

// Whether the calling process is in `path` or below it.
bool CallerIsIn(std::string_view path) {
  const std::vector<pid_t> pids = CgroupProcesses(path);
  return std::find(pids.begin(), pids.end(), getpid()) != pids.end();
}

void SetFrozen(const std::string& freezer, const char* state) {
  if (!freezer.empty()) {
    WriteControlFile(freezer + "/freezer.state", state).IgnoreError();
  }
}

// SIGKILLs what is there now; whether there was something.
bool KillOnce(std::string_view path) {
  bool left = false;
  for (const pid_t pid : CgroupProcesses(path)) {
    left = (pid != getpid() && kill(pid, SIGKILL) == 0) || left;
  }
  return left;
}

}  // namespace

CgroupMode HostCgroupMode() {
  static const CgroupMode mode = [] {
    struct statfs info = {};
    return statfs(kRoot, &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC ? CgroupMode::kV2
                                                                           : CgroupMode::kV1;
  }();
  return mode;
}

std::vector<std::string> CgroupDirectories(std::string_view path) {
  std::vector<std::string> directories;
  for (const Hierarchy& hierarchy : Hierarchies()) {
    directories.push_back(StrCat(hierarchy.mount, path));
  }
  return directories;
}

std::string CgroupDirectory(std::string_view controller, std::string_view path) {
  for (const Hierarchy& hierarchy : Hierarchies()) {
    if (HostCgroupMode() == CgroupMode::kV2 ||
        std::find(hierarchy.controllers.begin(), hierarchy.controllers.end(), controller) !=
            hierarchy.controllers.end()) {
      return StrCat(hierarchy.mount, path);
    }
  }
  return "";
}

absl::Status MakeCgroup(std::string_view path) {
  for (const Hierarchy& hierarchy : Hierarchies()) {
    RETURN_IF_ERROR(MakeIn(hierarchy.mount, path));
  }
  return absl::OkStatus();
}

absl::Status JoinCgroup(std::string_view path, pid_t pid) {
  for (const std::string& directory : CgroupDirectories(path)) {
    RETURN_IF_ERROR(WriteControlFile(directory + "/cgroup.procs", StrCat(pid)));
  }
  return absl::OkStatus();
}

std::vector<pid_t> CgroupProcesses(std::string_view path) {
  std::set<pid_t> pids;
  for (const std::string& directory : CgroupDirectories(path)) {
    CollectProcesses(directory, &pids);
  }
  return {pids.begin(), pids.end()};
}

absl::Status KillCgroup(const Context& ctx, std::string_view path, CgroupFate fate) {
  // Killed as one, whatever it forks meanwhile; a stopped cgroup, too.
  if (HostCgroupMode() == CgroupMode::kV2 && fate == CgroupFate::kRemoved && !CallerIsIn(path)) {
    WriteControlFile(StrCat(CgroupDirectories(path).front(), "/cgroup.kill"), "1").IgnoreError();
  }
  constexpr int kPlainRounds = 3;
  for (int round = 0;; ++round) {
    const std::string freezer =
        round < kPlainRounds || HostCgroupMode() == CgroupMode::kV2 || CallerIsIn(path)
            ? ""
            : CgroupDirectory("freezer", path);
    SetFrozen(freezer, "FROZEN");
    const bool left = KillOnce(path);
    SetFrozen(freezer, "THAWED");
    if (!left) {
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(Annotate(ctx.Check(), StrCat("kill the cgroup ", path)));
    Rest(ctx);
  }
}

absl::Status RemoveCgroup(std::string_view path) {
  return RemoveCgroup(Context::Detached(absl::Seconds(1)), path);
}

absl::Status RemoveCgroup(const Context& ctx, std::string_view path) {
  if (path.empty() || path == "/") {
    return absl::InvalidArgumentError("the root cgroup cannot be removed");
  }
  for (const std::string& directory : CgroupDirectories(path)) {
    RETURN_IF_ERROR(RemoveIn(ctx, directory));
  }
  return absl::OkStatus();
}

}  // namespace base
