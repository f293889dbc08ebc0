// The verbs that keep namespaces alive.

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conmon/init/verbs.h"
#include "conmon/system.h"

namespace conmon {
namespace {

// A descriptor that reads SIGTERM, SIGINT and SIGCHLD.
int OpenSignals() {
  ResetSignals();
  sigset_t signals;
  sigemptyset(&signals);
  constexpr int kAwaited[] = {SIGTERM, SIGINT, SIGCHLD};
  for (int number : kAwaited) {
    sigaddset(&signals, number);
  }
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  return signalfd(-1, &signals, SFD_CLOEXEC);
}

// Reaps children until a signal, or the end of `input` (-1: none), says that it is time to go.
void WaitForEnd(int signals, int input) {
  for (;;) {
    pollfd entries[] = {{signals, POLLIN, 0}, {input, POLLIN, 0}};
    if (poll(entries, 2, -1) < 0) {
      continue;
    }
    signalfd_siginfo info = {};
    if (entries[0].revents != 0 && read(signals, &info, sizeof(info)) == sizeof(info) &&
        info.ssi_signo != SIGCHLD) {
      return;
    }
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    char byte = 0;
    if (entries[1].revents != 0 && read(input, &byte, 1) <= 0) {
      return;
    }
  }
}

int NamespaceFlag(const char* option) {
  struct Named {
    const char* option;
    int flag;
  };
  constexpr Named kAll[] = {{"--user", CLONE_NEWUSER},
                            {"--net", CLONE_NEWNET},
                            {"--ipc", CLONE_NEWIPC},
                            {"--uts", CLONE_NEWUTS}};
  for (const Named& named : kAll) {
    if (strcmp(option, named.option) == 0) {
      return named.flag;
    }
  }
  return 0;
}

}  // namespace

int Hold(int argc, char** argv) {
  int flags = 0;
  for (int i = 0; i < argc; ++i) {
    const int flag = NamespaceFlag(argv[i]);
    if (flag == 0) {
      Complain(kInit, "hold: unknown option ", argv[i]);
      return kUsageError;
    }
    flags |= flag;
  }
  const int signals = OpenSignals();
  if (signals < 0 || unshare(flags) != 0) {
    const int error = errno;
    Complain(kInit, "hold: unshare: ", strerror(error));
    return error == ENOSPC || error == EUSERS ? kLimitReached : 1;
  }
  if (write(STDOUT_FILENO, "ready\n", 6) != 6) {
    return 1;
  }
  WaitForEnd(signals, STDIN_FILENO);
  return 0;
}

int Pause(int argc, char** argv) {
  if (argc > 0) {
    Complain(kInit, "pause: unexpected argument ", argv[0]);
    return kUsageError;
  }
  const int signals = OpenSignals();
  if (signals < 0) {
    Complain(kInit, "pause: signalfd: ", strerror(errno));
    return 1;
  }
  WaitForEnd(signals, -1);
  return 0;
}

}  // namespace conmon
