// The verb `exec`: waits for a process that an OCI runtime puts into a container and goes. The
// runtime itself would stay until every copy of the process's output is closed (runc), or hold
// memory for as long as the process runs (crun).

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conmon/init/verbs.h"
#include "conmon/system.h"

namespace conmon {
namespace {

constexpr int kFailure = 125;

int StatusOf(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// The exit status of `pid`; -1 when it is no child of ours.
int WaitFor(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) {
      return -1;
    }
  }
  return StatusOf(status);
}

// The process that the runtime left; it may have ended already, then its status waits for us.
int WaitForProcess(const char* pid_file) {
  char text[32];
  const ssize_t length = ReadSmallFile(AT_FDCWD, pid_file, text, sizeof(text));
  if (length > 0 && text[length - 1] == '\n') {
    text[length - 1] = '\0';
  }
  const int64_t pid = length > 0 ? ParseNumber(text, INT32_MAX) : -1;
  const int code = pid > 0 ? WaitFor(static_cast<pid_t>(pid)) : -1;
  if (code < 0) {
    Complain(kInit, "exec: the runtime named no process of ours in ", pid_file);
    return kFailure;
  }
  return code;
}

}  // namespace

int Exec(int argc, char** argv) {
  if (argc < 4 || strcmp(argv[0], "--pid-file") != 0 || strcmp(argv[2], "--") != 0) {
    Complain(kInit, "exec: expected --pid-file FILE -- RUNTIME [ARGUMENT…]");
    return kUsageError;
  }
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const pid_t runtime = fork();
  if (runtime < 0) {
    Complain(kInit, "exec: fork: ", strerror(errno));
    return kFailure;
  }
  if (runtime == 0) {
    execv(argv[3], argv + 3);
    Complain(kInit, argv[3], ": ", strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
  }
  // The command's alone from now on: who closes an end of it is seen at the other.
  close(STDIN_FILENO);
  close(STDOUT_FILENO);
  const int code = WaitFor(runtime);
  return code == 0 ? WaitForProcess(argv[1]) : code;
}

}  // namespace conmon
