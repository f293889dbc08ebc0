// Clean starts: every child of the daemon goes through `crisp-init run`, which gives it the limits,
// signals, OOM score and cgroup it should have instead of the daemon's.
#pragma once

#include <sys/resource.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/subprocess.h"

namespace base {

// Immutable after construction; thread-safe.
class Launcher {
 public:
  // `init_path` is the crisp-init binary, `work_cgroup` the cgroup (relative to each hierarchy's
  // root, such as "/crisp-work") that children join by default; on v1 in the pids hierarchy alone.
  // Remembers the rlimits the process has now: children get these back. An empty `init_path` makes
  // Wrap return its input.
  Launcher(std::string init_path, std::string work_cgroup);

  struct Options {
    int oom_score_adj = 0;  // crisp-init goes as low as it may when this is refused.
    std::string cgroup;     // Instead of the work cgroup; "-" leaves the child where the daemon is.
    bool new_session = true;
    // Joins the cgroup in every v1 hierarchy, so that its limits hold; costs each start some
    // milliseconds on a busy machine.
    bool all_hierarchies = false;
    bool orphan = false;  // Nobody's child: the one that is spawned ends at once, with 0.
  };

  // `command` with crisp-init in front of it.
  Command Wrap(Command command, const Options& options) const;
  Command Wrap(Command command) const { return Wrap(std::move(command), Options()); }

  const std::string& work_cgroup() const { return work_cgroup_; }

 private:
  const std::string init_path_;
  const std::string work_cgroup_;
  std::vector<std::string> rlimit_arguments_;
};

}  // namespace base
