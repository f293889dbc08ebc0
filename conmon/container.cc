#include "conmon/container.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "conmon/protocol.h"

namespace conmon {
namespace {

constexpr char kConsoleSocket[] = "console.sock";
// A create that is nearly through is let finish: less is left to clean up than after a kill.
constexpr int64_t kCreateGrace = 1000 * kMillisecond;
constexpr int64_t kDeleteTimeout = 15'000 * kMillisecond;

void CloseFd(int* fd) {
  if (*fd >= 0) {
    close(*fd);
  }
  *fd = -1;
}

void SetNonBlocking(int fd) {
  if (fd >= 0) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  }
}

void DrainSignals(int signal_fd) {
  signalfd_siginfo info;
  while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
  }
}

int StatusCode(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// The value of the line that starts with `key` ("oom_kill "); 0 if there is none.
uint32_t LineValue(const char* text, const char* key) {
  for (const char* line = text; line != nullptr;) {
    if (strncmp(line, key, strlen(key)) == 0) {
      uint32_t value = 0;
      for (const char* digit = line + strlen(key); *digit >= '0' && *digit <= '9'; ++digit) {
        value = value * 10 + static_cast<uint32_t>(*digit - '0');
      }
      return value;
    }
    line = strchr(line, '\n');
    line = line == nullptr ? nullptr : line + 1;
  }
  return 0;
}

int OpenInCgroup(const char* root, const char* cgroup, const char* name) {
  int tree = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  int directory =
      openat(tree, cgroup[1] == '\0' ? "." : cgroup + 1, O_PATH | O_DIRECTORY | O_CLOEXEC);
  const int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
  CloseFd(&directory);
  CloseFd(&tree);
  return fd;
}

// The file that counts OOM kills, from the text of /proc/PID/cgroup ("4:memory:/path", "0::/path").
// The memory controller on v1 wins over the unified tree of a hybrid host.
int OpenOomFile(char* text) {
  const char* unified = nullptr;
  char* next = nullptr;
  for (char* line = strtok_r(text, "\n", &next); line != nullptr;
       line = strtok_r(nullptr, "\n", &next)) {
    char* controllers = strchr(line, ':');
    char* cgroup = controllers == nullptr ? nullptr : strchr(controllers + 1, ':');
    if (cgroup == nullptr) {
      continue;
    }
    *cgroup++ = '\0';
    ++controllers;
    if (strcmp(controllers, "memory") == 0) {
      return OpenInCgroup("/sys/fs/cgroup/memory", cgroup, "memory.oom_control");
    }
    unified = *controllers == '\0' ? cgroup : unified;
  }
  return unified == nullptr ? -1 : OpenInCgroup("/sys/fs/cgroup", unified, "memory.events");
}

}  // namespace

bool Container::Fail(const char* what, int error) {
  exit_status_ = -1;
  failure_.Add(what);
  if (error != 0) {
    failure_.Add(": ").Add(strerror(error));
  }
  return false;
}

bool Container::Create(int handshake_fd) {
  int child[3] = {-1, -1, -1};
  bool ok = OpenStdio(child);
  if (ok) {
    unlinkat(state_dir_, kPidFile, 0);
    unlinkat(state_dir_, kRuntimeLogFile, 0);
    const pid_t runtime = Fork();
    if (runtime == 0) {
      BecomeCreate(child);
    }
    ok = runtime > 0;
    for (size_t i = 0; i < 3; ++i) {
      if (options_.sandboxed) {
        start_stdio_[i] = child[i];
        child[i] = -1;
      } else {
        CloseFd(&child[i]);
      }
    }
    ok = ok && WaitForCreate(runtime, handshake_fd);
  }
  for (int& fd : child) {
    CloseFd(&fd);
  }
  CloseFd(&console_listener_);
  CloseFd(&console_);
  unlinkat(state_dir_, kConsoleSocket, 0);
  if (!ok || (options_.terminal && !TakeTerminal()) || !ReadPid()) {
    return false;
  }
  OpenOomCounter();
  start_due_ = options_.sandboxed;
  return true;
}

// The pipes were for the runtime's words alone.
bool Container::TakeTerminal() {
  if (terminal_ < 0) {
    return Fail("the runtime sent no terminal", 0);
  }
  CloseFd(&stdout_fd);
  CloseFd(&stderr_fd);
  stdout_fd = terminal_;
  stdin_fd = options_.has_stdin ? terminal_ : -1;
  return true;
}

bool Container::OpenStdio(int child[3]) {
  int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
  const bool stdin_pipe = (options_.has_stdin || options_.own_stdin) && !options_.terminal;
  // With a terminal the runtime alone gets the pipes, for its words.
  if (pipe2(pipes[1], O_CLOEXEC) != 0 || pipe2(pipes[2], O_CLOEXEC) != 0 ||
      (stdin_pipe && pipe2(pipes[0], O_CLOEXEC) != 0)) {
    return Fail("pipe", errno);
  }
  // A process that opens /dev/stdout does it with its own rights, and in a user namespace nobody
  // owns these pipes: not every runtime can give them to it.
  for (const auto& ends : pipes) {
    if (ends[0] >= 0) {
      fchmod(ends[0], 0666);
    }
  }
  child[0] = stdin_pipe ? pipes[0][0] : open("/dev/null", O_RDWR | O_CLOEXEC);
  child[1] = pipes[1][1];
  child[2] = pipes[2][1];
  stdin_fd = pipes[0][1];
  if (!options_.has_stdin) {
    CloseFd(&stdin_fd);
  }
  stdout_fd = pipes[1][0];
  stderr_fd = pipes[2][0];
  SetNonBlocking(stdin_fd);
  SetNonBlocking(stdout_fd);
  SetNonBlocking(stderr_fd);
  return !options_.terminal || ListenForConsole();
}

bool Container::ListenForConsole() {
  console_listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  Text<sizeof(sockaddr_un::sun_path)> path;
  path.Add("/proc/self/fd/").AddNumber(state_dir_).Add("/").Add(kConsoleSocket);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  unlinkat(state_dir_, kConsoleSocket, 0);
  if (console_listener_ < 0 ||
      bind(console_listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(console_listener_, 1) != 0) {
    return Fail("console socket", errno);
  }
  return true;
}

// Takes the master of the terminal when the runtime has sent it.
void Container::ReceiveConsole() {
  if (console_listener_ >= 0 && console_ < 0) {
    console_ = accept4(console_listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  }
  char name[256];
  iovec vector = {name, sizeof(name)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (console_ < 0 || recvmsg(console_, &message, MSG_CMSG_CLOEXEC) < 0) {
    return;
  }
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  CloseFd(&console_);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
    return;
  }
  CloseFd(&console_listener_);
  memcpy(&terminal_, CMSG_DATA(header), sizeof(terminal_));
  SetNonBlocking(terminal_);
  termios settings = {};
  if (tcgetattr(terminal_, &settings) == 0) {
    settings.c_oflag |= ONLCR;  // Some runtimes clear it.
    tcsetattr(terminal_, TCSANOW, &settings);
  }
}

// A child that dies with us.
pid_t Container::Fork() {
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
      _exit(127);
    }
  } else if (child < 0) {
    Fail("fork", errno);
  } else {
    runtime_ran_ = true;
  }
  return child;
}

// In a child: the runtime with its global options and then `rest`. Arguments are put together here
// and not before the fork, so that they cost memory only for as long as the child lives.
void Container::BecomeRuntime(const char* const* rest, size_t count, const int stdio[3]) const {
  char* arguments[kMaxRuntimeArguments + 16];
  memcpy(arguments, options_.runtime, options_.runtime_count * sizeof(char*));
  memcpy(arguments + options_.runtime_count, rest, count * sizeof(char*));
  arguments[options_.runtime_count + count] = nullptr;
  ResetSignals();
  for (int fd = 0; fd < 3; ++fd) {
    dup2(stdio[fd], fd);
  }
  execv(arguments[0], arguments);
  Complain(arguments[0], strerror(errno));
  _exit(127);
}

void Container::BecomeCreate(const int stdio[3]) const {
  Text<4200> pid_file, log;
  Text<64> console;
  pid_file.Add(options_.state_dir).Add("/").Add(kPidFile);
  log.Add(options_.state_dir).Add("/").Add(kRuntimeLogFile);
  // By the descriptor: the real path may be too long for a socket.
  console.Add("/proc/").AddNumber(getppid()).Add("/fd/").AddNumber(state_dir_).Add("/");
  console.Add(kConsoleSocket);
  const char* rest[12] = {"--log",    log.data(),      "--log-format", "json",         "create",
                          "--bundle", options_.bundle, "--pid-file",   pid_file.data()};
  size_t count = 9;
  if (options_.terminal) {
    rest[count++] = "--console-socket";
    rest[count++] = console.data();
  }
  rest[count++] = options_.id;
  BecomeRuntime(rest, count, stdio);
}

// What comes before `start` is the runtime's: the end of its stderr is kept, the rest dropped.
void Container::DiscardOutput() {
  char words[1024];
  ssize_t length = 0;
  while ((length = read(stderr_fd, words, sizeof(words))) > 0) {
    if (failure_.size() + static_cast<size_t>(length) >= sizeof(words)) {
      failure_.clear();
    }
    failure_.Add(words, static_cast<size_t>(length));
  }
  while (read(stdout_fd, words, sizeof(words)) > 0) {
  }
}

bool Container::WaitForCreate(pid_t runtime, int handshake_fd) {
  int status = 0;
  pollfd fds[] = {{signal_fd_, POLLIN, 0},
                  {handshake_fd, POLLIN, 0},
                  {-1, POLLIN, 0},
                  {stderr_fd, POLLIN, 0},
                  {stdout_fd, POLLIN, 0}};
  while (waitpid(runtime, &status, WNOHANG) != runtime) {
    fds[2].fd = console_ >= 0 ? console_ : console_listener_;
    poll(fds, 5, -1);
    for (size_t i = 3; i < 5; ++i) {
      fds[i].fd = fds[i].revents == POLLHUP ? -1 : fds[i].fd;  // Closed: no more news from it.
    }
    if (fds[1].revents != 0) {
      // Nothing is due from the daemon: this is its end, or its change of mind.
      if (!WaitFor(runtime, MonotonicClock() + kCreateGrace)) {
        kill(runtime, SIGKILL);
      }
      return Fail("the daemon hung up", 0);
    }
    ReceiveConsole();
    DiscardOutput();
    DrainSignals(signal_fd_);
  }
  ReceiveConsole();
  DiscardOutput();
  exit_status_ = StatusCode(status);
  if (exit_status_ == 0) {
    failure_.clear();
  }
  return exit_status_ == 0;
}

bool Container::ReadPid() {
  char text[32];
  ssize_t length = ReadSmallFile(state_dir_, kPidFile, text, sizeof(text));
  while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' ')) {
    text[--length] = '\0';
  }
  pid_ = length > 0 ? static_cast<pid_t>(ParseNumber(text, INT32_MAX)) : -1;
  if (pid_ <= 1) {
    return Fail("the runtime wrote no pid file", 0);
  }
  pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (pidfd_ < 0) {
    return Fail("pidfd_open", errno);
  }
  siginfo_t info = {};
  const id_t init = static_cast<id_t>(pid_);
  foreign_ = waitid(P_PID, init, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
  return true;
}

void Container::OpenOomCounter() {
  Text<64> proc;
  proc.Add("/proc/").AddNumber(pid_).Add("/cgroup");
  if (ReadSmallFile(AT_FDCWD, proc.data(), scratch_, kScratchSize) > 0) {
    oom_fd_ = OpenOomFile(scratch_);
    ReadOomKills();
  }
}

void Container::ReadOomKills() {
  char text[512];
  if (oom_fd_ < 0) {
    return;
  }
  const ssize_t length = pread(oom_fd_, text, sizeof(text) - 1, 0);
  if (length < 0) {
    CloseFd(&oom_fd_);  // The cgroup has gone; what was read last stands.
    oom_lost_ = true;
    return;
  }
  text[length] = '\0';
  const uint32_t kills = LineValue(text, "oom_kill ");
  oom_kills_ = kills > oom_kills_ ? kills : oom_kills_;
  out_of_memory_ = LineValue(text, "oom ") > 0;
}

void Container::Reap() {
  DrainSignals(signal_fd_);
  for (;;) {
    siginfo_t info = {};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
      return;
    }
    if (info.si_pid == pid_) {
      ReadOomKills();  // First: once it is reaped the cgroup may go.
    }
    int status = 0;
    const pid_t reaped = waitpid(info.si_pid, &status, WNOHANG);
    if (reaped == pid_ && pid_ > 0 && !exited_) {
      exited_ = true;
      // systemd may take a scope away sooner than its last count is read: then what was said before
      // the kill tells.
      if (oom_lost_ && out_of_memory_ && oom_kills_ == 0 && StatusCode(status) == 128 + SIGKILL) {
        oom_kills_ = 1;
      }
      exit_ = {StatusCode(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0, oom_kills_,
               WallClock()};
    } else if (reaped == waiter_ && reaped > 0) {
      WaiterEnded();
    }
  }
}

void Container::InitVanished() {
  ReadOomKills();
  exited_ = true;
  exit_ = {255, 0, oom_kills_, WallClock()};
}

void Container::CloseStdin() {
  if (stdin_fd != stdout_fd) {
    CloseFd(&stdin_fd);
  }
  stdin_fd = -1;  // A terminal's master stays open for output.
}

void Container::CloseOutput(int* fd) {
  if (fd == &stdout_fd && stdin_fd == stdout_fd) {
    stdin_fd = -1;
  }
  CloseFd(fd);
}

void Container::Undo() {
  if (!runtime_ran_) {
    return;
  }
  KillChildren();
  const pid_t runtime = Fork();
  if (runtime == 0) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const int stdio[3] = {null, null, null};
    const char* const rest[] = {"delete", "--force", options_.id};
    BecomeRuntime(rest, 3, stdio);
  }
  if (runtime > 0) {
    WaitFor(runtime, MonotonicClock() + kDeleteTimeout);
  }
  KillChildren();
}

// SIGKILLs all children, orphans that came to us among them, until none is left or none dies.
void Container::KillChildren() {
  Text<64> path;
  path.Add("/proc/self/task/").AddNumber(getpid()).Add("/children");
  char children[512];
  const int64_t deadline = MonotonicClock() + 2 * kCreateGrace;
  while (ReadSmallFile(AT_FDCWD, path.data(), children, sizeof(children)) > 0) {
    pid_t last = -1;
    char* next = nullptr;
    for (char* word = strtok_r(children, " ", &next); word != nullptr;
         word = strtok_r(nullptr, " ", &next)) {
      const pid_t child = static_cast<pid_t>(ParseNumber(word, INT32_MAX));
      if (child > 1 && kill(child, SIGKILL) == 0) {
        last = child;
      }
    }
    if (last < 0 || !WaitFor(last, deadline)) {
      return;
    }
  }
}

// Reaps children until `child` is among them; false at the deadline.
bool Container::WaitFor(pid_t child, int64_t deadline) {
  for (;;) {
    DrainSignals(signal_fd_);
    pid_t reaped = 0;
    while ((reaped = waitpid(-1, nullptr, WNOHANG)) > 0) {
      if (reaped == child) {
        return true;
      }
    }
    pollfd entry = {signal_fd_, POLLIN, 0};
    if (reaped < 0 || poll(&entry, 1, MillisecondsUntil(deadline)) == 0) {
      return reaped < 0;  // No children at all: it has been reaped before.
    }
  }
}

}  // namespace conmon
