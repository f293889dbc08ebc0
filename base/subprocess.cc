#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// posix_spawn's actions and attributes, destroyed with the scope.
struct SpawnPlan {
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

// Copies of the descriptors above every number the child uses, so that no dup2 overwrites a source.
absl::Status PlanDescriptors(const Command& command, SpawnPlan* plan,
                             std::vector<UniqueFd>* copies) {
  int first_free = 3;
  for (const auto& [number, fd] : command.extra_fds) {
    first_free = std::max(first_free, number + 1);
  }
  std::vector<std::pair<int, int>> wanted = {
      {0, command.stdin_fd}, {1, command.stdout_fd}, {2, command.stderr_fd}};
  wanted.insert(wanted.end(), command.extra_fds.begin(), command.extra_fds.end());
  for (const auto& [number, fd] : wanted) {
    if (fd < 0) {
      posix_spawn_file_actions_addopen(&plan->actions, number, "/dev/null", O_RDWR, 0);
      continue;
    }
    copies->emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, first_free));
    if (!copies->back().valid()) {
      return ErrnoStatus(errno, "duplicate a descriptor");
    }
    posix_spawn_file_actions_adddup2(&plan->actions, copies->back().get(), number);
  }
  posix_spawn_file_actions_addclosefrom_np(&plan->actions, first_free);
  return absl::OkStatus();
}

void PlanSignals(SpawnPlan* plan) {
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&plan->attributes, &none);
  posix_spawnattr_setsigdefault(&plan->attributes, &all);
  posix_spawnattr_setflags(&plan->attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

ExitState FromSiginfo(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) {
    return {.code = info.si_status, .signal = 0};
  }
  return {.code = 128 + info.si_status, .signal = info.si_status};
}

bool ReapNow(pid_t pid, ExitState* state) {
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0) {
    return false;
  }
  *state = FromSiginfo(info);
  return true;
}

bool PollReadable(int fd, int milliseconds) {
  pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  int ready;
  do {
    ready = poll(&entry, 1, milliseconds);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

void* ReapLater(void* argument) {
  const auto pid = static_cast<pid_t>(reinterpret_cast<intptr_t>(argument));
  siginfo_t info;
  while (waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) != 0 && errno == EINTR) {
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<Subprocess> Subprocess::Spawn(const Command& command) {
  if (command.argv.empty()) {
    return absl::InvalidArgumentError("no program to run");
  }
  SpawnPlan plan;
  std::vector<UniqueFd> copies;
  RETURN_IF_ERROR(PlanDescriptors(command, &plan, &copies));
  PlanSignals(&plan);
  if (!command.directory.empty()) {
    posix_spawn_file_actions_addchdir_np(&plan.actions, command.directory.c_str());
  }
  pid_t pid = -1;
  const int error = posix_spawn(&pid, command.argv[0].c_str(), &plan.actions, &plan.attributes,
                                Pointers(command.argv).data(), Pointers(command.env).data());
  if (error != 0) {
    return ErrnoStatus(error, StrCat("run ", command.argv[0]));
  }
  UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) {
    const absl::Status status = ErrnoStatus(errno, "open a pidfd");
    Subprocess dropped(pid, UniqueFd());
    return status;
  }
  return Subprocess(pid, std::move(pidfd));
}

Subprocess::Subprocess(Subprocess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

Subprocess& Subprocess::operator=(Subprocess&& other) noexcept {
  if (this != &other) {
    KillAndReap();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
  }
  return *this;
}

Subprocess::~Subprocess() { KillAndReap(); }

void Subprocess::KillAndReap() {
  if (pid_ < 0) {
    return;
  }
  // Not yet reaped, so the pid is still this child's, and so is the process group of that number if
  // it made one: a plugin's helpers must not outlive it.
  kill(-pid_, SIGKILL);
  kill(pid_, SIGKILL);
  ExitState state;
  const bool ended = !pidfd_.valid() || PollReadable(pidfd_.get(), 1000);
  if (!ended || !ReapNow(pid_, &state)) {
    // It hangs in the kernel; nobody should wait for it but a thread made for that.
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    pthread_t thread;
    pthread_create(&thread, &attributes, ReapLater,
                   reinterpret_cast<void*>(static_cast<intptr_t>(pid_)));
    pthread_attr_destroy(&attributes);
  }
  pid_ = -1;
}

absl::StatusOr<ExitState> Subprocess::Wait(const Context& ctx) {
  for (;;) {
    ExitState state;
    if (TryReap(&state)) {
      return state;
    }
    const absl::Status status = ctx.Check();
    if (!status.ok()) {
      KillAndReap();
      return status;
    }
    pollfd entries[] = {{.fd = pidfd_.get(), .events = POLLIN, .revents = 0},
                        {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0}};
    poll(entries, 2, ctx.PollTimeout());
  }
}

absl::Status Subprocess::Kill(int signal) {
  if (pid_ >= 0 && kill(pid_, signal) != 0 && errno != ESRCH) {
    return ErrnoStatus(errno, StrCat("send signal ", signal, " to process ", pid_));
  }
  return absl::OkStatus();
}

bool Subprocess::TryReap(ExitState* state) {
  if (pid_ < 0 || !ReapNow(pid_, state)) {
    return false;
  }
  pid_ = -1;
  return true;
}

void Subprocess::Detach() { pid_ = -1; }

namespace {

// Moves bytes between us and one child until it ends. One object per RunCommand.
class Conversation {
 public:
  Conversation(const Context& ctx, std::string_view input, size_t max_output)
      : ctx_(ctx), input_(input), max_output_(max_output) {}

  absl::StatusOr<CommandResult> Run(Command command) {
    RETURN_IF_ERROR(OpenPipes(&command));
    ASSIGN_OR_RETURN(Subprocess child, Subprocess::Spawn(command));
    child_out_.Reset();
    child_err_.Reset();
    for (;;) {
      if (child.TryReap(&result_.exit)) {
        // What it wrote is in the pipes already; a grandchild may hold them open for ever.
        Drain(&out_, &result_.out);
        Drain(&err_, &result_.err);
        return std::move(result_);
      }
      const absl::Status status = ctx_.Check();
      if (!status.ok()) {
        return Annotate(status, StrCat("run ", command.argv[0]));
      }
      Exchange(child.pidfd());
    }
  }

 private:
  absl::Status OpenPipes(Command* command) {
    RETURN_IF_ERROR(OpenPipe(&out_, &child_out_));
    RETURN_IF_ERROR(OpenPipe(&err_, &child_err_));
    command->stdout_fd = child_out_.get();
    command->stderr_fd = child_err_.get();
    return input_.empty() ? absl::OkStatus() : OpenInput(command);
  }

  // A file in memory rather than a pipe: nobody has to feed it, a child that does not read it
  // cannot hurt us, and a script may open it again as /dev/stdin.
  absl::Status OpenInput(Command* command) {
    input_fd_.Reset(memfd_create("input", MFD_CLOEXEC));
    if (!input_fd_.valid()) {
      return ErrnoStatus(errno, "make a file in memory");
    }
    RETURN_IF_ERROR(WriteAll(input_fd_.get(), input_, "a file in memory"));
    lseek(input_fd_.get(), 0, SEEK_SET);
    command->stdin_fd = input_fd_.get();
    return absl::OkStatus();
  }

  static absl::Status OpenPipe(UniqueFd* ours, UniqueFd* theirs) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
      return ErrnoStatus(errno, "make a pipe");
    }
    ours->Reset(ends[0]);
    theirs->Reset(ends[1]);
    fchmod(ends[1], 0666);  // For a child that opens /dev/stdout as another user.
    fcntl(ours->get(), F_SETFL, O_NONBLOCK);
    return absl::OkStatus();
  }

  // Waits for something to happen and serves it.
  void Exchange(int pidfd) {
    pollfd entries[] = {{.fd = pidfd, .events = POLLIN, .revents = 0},
                        {.fd = out_.get(), .events = POLLIN, .revents = 0},
                        {.fd = err_.get(), .events = POLLIN, .revents = 0},
                        {.fd = ctx_.cancel_fd(), .events = POLLIN, .revents = 0}};
    if (poll(entries, std::size(entries), ctx_.PollTimeout()) <= 0) {
      return;
    }
    if (entries[1].revents != 0) Drain(&out_, &result_.out);
    if (entries[2].revents != 0) Drain(&err_, &result_.err);
  }

  void Drain(UniqueFd* fd, std::string* text) {
    char buffer[16384];
    while (fd->valid()) {
      const ssize_t got = read(fd->get(), buffer, sizeof(buffer));
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
      }
      if (got <= 0) {
        fd->Reset();
        return;
      }
      text->append(buffer, std::min(static_cast<size_t>(got), max_output_ - text->size()));
    }
  }

  const Context& ctx_;
  const std::string_view input_;
  const size_t max_output_;
  UniqueFd input_fd_, out_, err_;
  UniqueFd child_out_, child_err_;
  CommandResult result_;
};

}  // namespace

absl::StatusOr<CommandResult> RunCommand(const Context& ctx, const Command& command,
                                         std::string_view input, size_t max_output) {
  return Conversation(ctx, input, max_output).Run(command);
}

}  // namespace base
