#include "base/launcher.h"

#include <array>
#include <utility>

#include "base/cgroup.h"
#include "base/strings.h"

namespace base {
namespace {

struct LimitName {
  int resource;
  const char* name;
};
constexpr std::array<LimitName, 16> kLimits = {{{RLIMIT_AS, "as"},
                                                {RLIMIT_CORE, "core"},
                                                {RLIMIT_CPU, "cpu"},
                                                {RLIMIT_DATA, "data"},
                                                {RLIMIT_FSIZE, "fsize"},
                                                {RLIMIT_LOCKS, "locks"},
                                                {RLIMIT_MEMLOCK, "memlock"},
                                                {RLIMIT_MSGQUEUE, "msgqueue"},
                                                {RLIMIT_NICE, "nice"},
                                                {RLIMIT_NOFILE, "nofile"},
                                                {RLIMIT_NPROC, "nproc"},
                                                {RLIMIT_RSS, "rss"},
                                                {RLIMIT_RTPRIO, "rtprio"},
                                                {RLIMIT_RTTIME, "rttime"},
                                                {RLIMIT_SIGPENDING, "sigpending"},
                                                {RLIMIT_STACK, "stack"}}};

std::string LimitText(rlim_t value) { return value == RLIM_INFINITY ? "unlimited" : StrCat(value); }

// To be found and killed later a process must be in one hierarchy; each join costs the kernel a
// lock on all forks, so on v1 it is one.
std::vector<std::string> JoinedDirectories(const std::string& cgroup) {
  const std::string pids = CgroupDirectory("pids", cgroup);
  return pids.empty() ? CgroupDirectories(cgroup) : std::vector<std::string>{pids};
}

}  // namespace

Launcher::Launcher(std::string init_path, std::string work_cgroup)
    : init_path_(std::move(init_path)), work_cgroup_(std::move(work_cgroup)) {
  for (const auto& [resource, name] : kLimits) {
    rlimit limit = {};
    if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0) {
      rlimit_arguments_.push_back("--rlimit");
      rlimit_arguments_.push_back(
          StrCat(name, "=", LimitText(limit.rlim_cur), ":", LimitText(limit.rlim_max)));
    }
  }
}

Command Launcher::Wrap(Command command, const Options& options) const {
  if (init_path_.empty()) {
    return command;
  }
  std::vector<std::string> argv = {init_path_, "run", "--oom-score-adj",
                                   StrCat(options.oom_score_adj)};
  argv.insert(argv.end(), rlimit_arguments_.begin(), rlimit_arguments_.end());
  const std::string& cgroup = options.cgroup.empty() ? work_cgroup_ : options.cgroup;
  if (cgroup != "-" && !cgroup.empty()) {
    for (const std::string& directory :
         options.all_hierarchies ? CgroupDirectories(cgroup) : JoinedDirectories(cgroup)) {
      argv.push_back("--cgroup");
      argv.push_back(directory);
    }
  }
  if (options.orphan) {
    argv.emplace_back("--orphan");  // Before the session, which only its leader makes.
  }
  if (options.new_session) {
    argv.push_back("--new-session");
  }
  argv.push_back("--");
  argv.insert(argv.end(), command.argv.begin(), command.argv.end());
  command.argv = std::move(argv);
  return command;
}

}  // namespace base
