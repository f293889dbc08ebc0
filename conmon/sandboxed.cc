// Container, for runtimes that keep the process in a sandbox of their own, such as gVisor: the host
// sees the sandbox alone, which is no child of ours and holds other containers as well.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conmon/container.h"
#include "conmon/protocol.h"

namespace conmon {
namespace {

// The daemon gives up on a start sooner.
constexpr int64_t kStartTimeout = 60'000 * kMillisecond;

void CloseFd(int* fd) {
  if (*fd >= 0) {
    close(*fd);
  }
  *fd = -1;
}

}  // namespace

int Container::StartSandboxed() {
  if (!start_due_ || exited_) {
    return EINVAL;
  }
  start_due_ = false;
  const bool started = RunStart() && RunWaiter();
  for (int& fd : start_stdio_) {
    CloseFd(&fd);
  }
  if (!started) {
    exited_ = true;
    exit_ = {128, 0, oom_kills_, WallClock()};
  }
  return started ? 0 : EIO;
}

int Container::GiveUp() {
  if (!start_due_ || exited_) {
    return EINVAL;
  }
  start_due_ = false;
  for (int& fd : start_stdio_) {
    CloseFd(&fd);
  }
  exited_ = true;
  exit_ = {137, SIGKILL, oom_kills_, WallClock()};
  return 0;
}

bool Container::RunStart() {
  unlinkat(state_dir_, kRuntimeLogFile, 0);
  const pid_t runtime = Fork();
  if (runtime == 0) {
    BecomeStart();
  }
  int status = 0;
  const int64_t deadline = MonotonicClock() + kStartTimeout;
  while (runtime > 0 && waitpid(runtime, &status, WNOHANG) == 0) {
    pollfd entry = {signal_fd_, POLLIN, 0};
    if (poll(&entry, 1, MillisecondsUntil(deadline)) == 0) {
      kill(runtime, SIGKILL);
    }
    signalfd_siginfo info;
    while (read(signal_fd_, &info, sizeof(info)) == sizeof(info)) {
    }
  }
  return runtime > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void Container::BecomeStart() const {
  Text<4200> log;
  log.Add(options_.state_dir).Add("/").Add(kRuntimeLogFile);
  const char* const rest[] = {"--log", log.data(), "--log-format", "json", "start", options_.id};
  if (terminal_ >= 0) {  // It has its descriptors already.
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {null, null, null};
    BecomeRuntime(rest, 6, stdio);
  }
  BecomeRuntime(rest, 6, start_stdio_);
}

bool Container::RunWaiter() {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    return Fail("pipe", errno);
  }
  waiter_ = Fork();
  if (waiter_ == 0) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {null, ends[1], null};
    const char* const rest[] = {"wait", options_.id};
    BecomeRuntime(rest, 2, stdio);
  }
  close(ends[1]);
  waiter_output_ = ends[0];
  return waiter_ > 0;
}

// `wait` prints {"id":"…","exitStatus":N}; nothing when the sandbox was killed under it.
void Container::WaiterEnded() {
  waiter_ = -1;
  char text[512];
  const ssize_t length = read(waiter_output_, text, sizeof(text) - 1);
  CloseFd(&waiter_output_);
  text[length > 0 ? length : 0] = '\0';
  constexpr char kKey[] = "\"exitStatus\":";
  const char* found = strstr(text, kKey);
  int code = 137;
  if (found != nullptr) {
    code = 0;
    for (const char* digit = found + strlen(kKey); *digit >= '0' && *digit <= '9'; ++digit) {
      code = (code * 10 + (*digit - '0')) & 0xffff;
    }
  }
  ReadOomKills();
  exited_ = true;
  exit_ = {code, code > 128 && code <= 128 + 64 ? code - 128 : 0, oom_kills_, WallClock()};
}

}  // namespace conmon
