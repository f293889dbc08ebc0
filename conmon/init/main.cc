// crisp-init: holds namespaces, is the init of shared PID namespaces, and starts programs cleanly.

#include <string.h>
#include <unistd.h>

#include "conmon/init/verbs.h"
#include "conmon/system.h"

namespace {

const char kUsage[] =
    "usage: crisp-init hold [--user] [--net] [--ipc] [--uts]\n"
    "       crisp-init pause\n"
    "       crisp-init exec --pid-file FILE -- RUNTIME [ARGUMENT…]\n"
    "       crisp-init run [options] -- PROGRAM [ARGUMENT…]\n"
    "\n"
    "hold   makes new namespaces, writes \"ready\" and keeps them until its input ends\n"
    "pause  reaps children until SIGTERM or SIGINT\n"
    "exec   runs RUNTIME, then waits for the process it names in FILE and ends with its status\n"
    "run    becomes PROGRAM (127: there is none, 126: it cannot be run), with default signals and\n"
    "  --oom-score-adj N         its OOM score, or the closest one that is allowed\n"
    "  --rlimit NAME=SOFT:HARD   a limit such as nofile=1024:524288, or as close; repeatable\n"
    "  --cgroup DIR              in that cgroup directory, if there is one; repeatable\n"
    "  --new-session             in a session of its own\n"
    "  --orphan                  as nobody's child: who started it sees it end at once\n";

}  // namespace

int main(int argc, char** argv) {
  struct Verb {
    const char* name;
    int (*run)(int argc, char** argv);
  };
  constexpr Verb kVerbs[] = {{"hold", conmon::Hold},
                             {"pause", conmon::Pause},
                             {"exec", conmon::Exec},
                             {"run", conmon::Run}};
  for (const Verb& verb : kVerbs) {
    if (argc > 1 && strcmp(argv[1], verb.name) == 0) {
      return verb.run(argc - 2, argv + 2);
    }
  }
  if (argc > 1 && strcmp(argv[1], "--help") == 0) {
    return write(STDOUT_FILENO, kUsage, strlen(kUsage)) < 0 ? 1 : 0;
  }
  conmon::Complain(conmon::kInit, "expected hold, pause, exec or run; see --help");
  return conmon::kUsageError;
}
