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

// Waits for `pid`, reaping whatever else ends meanwhile. -1 when it is no child of ours.
int WaitFor(pid_t pid) {
  for (;;) {
    int status = 0;
    const pid_t ended = waitpid(-1, &status, 0);
    if (ended == pid) {
      return StatusOf(status);
    }
    if (ended < 0 && errno != EINTR) {
      return -1;
    }
  }
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
  // Not WaitFor: what the runtime leaves must not be reaped before it is known.
  int status = 0;
  while (waitpid(runtime, &status, 0) < 0 && errno == EINTR) {
  }
  return status == 0 ? WaitForProcess(argv[1]) : StatusOf(status);
}

}  // namespace conmon
