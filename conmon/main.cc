// crisp-monitor: holds one container's stdio, log and exit, so that the daemon may come and go.
//
// Its life: lock, cgroup, socket, `ready` → `go` → RUNTIME create → `created` → `acknowledge` →
// copy output until the init has ended → exit file → close. The daemon hanging up before
// `acknowledge` undoes everything.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conmon/attach.h"
#include "conmon/container.h"
#include "conmon/log_file.h"
#include "conmon/options.h"
#include "conmon/protocol.h"
#include "conmon/system.h"

namespace conmon {
namespace {

// A grandchild may hold the output open after the init has ended: not for longer than this.
constexpr int64_t kDrainTime = 2000 * kMillisecond;
// A terminal that nobody has open may be opened again.
constexpr int64_t kTerminalRetry = 200 * kMillisecond;
// Longer than an unfinished line is held, so that the buffers are empty then.
constexpr int64_t kQuietTime = 1000 * kMillisecond;
static_assert(kQuietTime > static_cast<int64_t>(kHoldMilliseconds) * kMillisecond);

// One stream of output on its way to the log and the clients.
struct Output {
  Output(const char* name, char* data) : lines(name, data) {}
  LineBuffer lines;
  int64_t retry_time = 0;  // Not 0: not read until then.
};

// Memory that is needed only while something happens: given back when all is quiet.
struct alignas(4096) Buffers {
  char stdout_lines[LineBuffer::kSize];
  char stderr_lines[LineBuffer::kSize];
  iovec vectors[LogFile::kMaxVectors];
  char payload[Server::kPayloadSize];  // The container's scratch as well.
};
static_assert(Server::kPayloadSize >= Container::kScratchSize);

// What is large: mapped and not static, so that all the rest shares a page or two.
struct Memory {
  Buffers buffers;
  char pending[Server::kPendingSize];
};

void Tell(int handshake_fd, MessageType type, const void* payload, size_t length,
          const char* words = "") {
  Header header = {static_cast<uint32_t>(type), 0};
  iovec pieces[] = {{&header, sizeof(header)},
                    {const_cast<void*>(payload), length},
                    {const_cast<char*>(words), strlen(words)}};
  msghdr message = {};
  message.msg_iov = pieces;
  message.msg_iovlen = 3;
  sendmsg(handshake_fd, &message, MSG_NOSIGNAL);
}

void TellFailed(int handshake_fd, int exit_status, const char* words) {
  const Failed failed = {exit_status};
  Tell(handshake_fd, MessageType::kFailed, &failed, sizeof(failed), words);
}

class Monitor {
 public:
  Monitor(const Options& options, int state_dir, int signal_fd, Memory* memory)
      : options_(options),
        state_dir_(state_dir),
        buffers_(&memory->buffers),
        log_(buffers_->vectors),
        container_(options, state_dir, signal_fd, buffers_->payload),
        signal_fd_(signal_fd),
        stdout_("stdout", buffers_->stdout_lines),
        stderr_("stderr", buffers_->stderr_lines),
        server_(options, &container_, &log_, buffers_->payload, memory->pending) {}

  int Run(int lock);

 private:
  bool Start(int lock, Text<256>* words);
  bool BeBorn();
  void Serve();
  void Turn();
  int Timeout() const;
  bool Drained() const { return container_.stdout_fd < 0 && container_.stderr_fd < 0; }
  void ReadOutput(int* fd, Output* output, uint32_t stream);
  void FlushLines(bool all);
  void WriteExit();

  bool Hear(MessageType type) const;

  const Options& options_;
  const int state_dir_;
  Buffers* const buffers_;
  LogFile log_;
  Container container_;
  const int signal_fd_;
  Output stdout_;
  Output stderr_;
  int64_t drain_end_ = 0;
  int64_t quiet_time_ = 0;  // When memory is given back; 0: it has been.
  Server server_;
};

// Waits for the daemon's word; false when it hangs up or says something else.
bool Monitor::Hear(MessageType type) const {
  Header header = {};
  const ssize_t length = recv(options_.handshake_fd, &header, sizeof(header), 0);
  return length >= static_cast<ssize_t>(sizeof(header)) &&
         header.type == static_cast<uint32_t>(type);
}

bool Monitor::Start(int lock, Text<256>* words) {
  const char* what = "lock";
  int error = flock(lock, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  for (size_t i = 0; error == 0 && i < options_.cgroup_count; ++i) {
    what = options_.cgroups[i];
    error = JoinCgroup(what);
    error = error == ENOENT ? 0 : error;  // Not every hierarchy need have it.
  }
  if (error == 0) {
    what = kSocketFile;
    error = server_.Listen(state_dir_);
  }
  if (error == 0) {
    Text<16> pid;
    pid.AddNumber(getpid());
    error = ftruncate(lock, 0) == 0 && write(lock, pid.data(), pid.size()) > 0 ? 0 : errno;
  }
  if (error != 0) {
    words->Add(what).Add(": ").Add(strerror(error));
  }
  return error == 0;
}

int Monitor::Run(int lock) {
  Text<256> words;
  if (!Start(lock, &words)) {
    TellFailed(options_.handshake_fd, -1, words.data());
    return 1;
  }
  const Ready ready = {kProtocolVersion, getpid()};
  Tell(options_.handshake_fd, MessageType::kReady, &ready, sizeof(ready));
  if (!Hear(MessageType::kGo) || !BeBorn()) {
    unlinkat(state_dir_, kSocketFile, 0);
    return 1;
  }
  Serve();
  WriteExit();
  server_.Finish(state_dir_);
  return 0;
}

// From `go` to `acknowledge`; whatever goes wrong leaves nothing behind.
bool Monitor::BeBorn() {
  Text<1024> words;
  int exit_status = -1;
  if (const int error = log_.Open(options_.log); error != 0) {
    words.Add("open log ").Add(options_.log).Add(": ").Add(strerror(error));
  } else if (container_.Create(options_.handshake_fd)) {
    const Created created = {container_.pid()};
    Tell(options_.handshake_fd, MessageType::kCreated, &created, sizeof(created));
    if (Hear(MessageType::kAcknowledge)) {
      close(options_.handshake_fd);
      return true;
    }
  } else {
    exit_status = container_.exit_status();
    words = container_.failure();
  }
  container_.Undo();
  TellFailed(options_.handshake_fd, exit_status, words.data());
  return false;
}

void Monitor::Serve() {
  container_.Reap();
  quiet_time_ = MonotonicClock() + kQuietTime;
  while (!container_.exited() || !Drained()) {
    if (container_.exited() && drain_end_ == 0) {
      drain_end_ = MonotonicClock() + kDrainTime;
      container_.CloseStdin();
    }
    if (drain_end_ != 0 && MonotonicClock() >= drain_end_) {
      break;
    }
    Turn();
  }
  FlushLines(true);
}

int Monitor::Timeout() const {
  int64_t first = INT64_MAX;
  const int64_t times[] = {stdout_.lines.flush_time(), stderr_.lines.flush_time(),
                           stdout_.retry_time, drain_end_, quiet_time_};
  for (int64_t time : times) {
    first = time != 0 && time < first ? time : first;
  }
  return first == INT64_MAX ? -1 : MillisecondsUntil(first);
}

void Monitor::Turn() {
  pollfd entries[5 + Server::kPollEntries] = {
      {signal_fd_, POLLIN, 0},
      {stdout_.retry_time == 0 ? container_.stdout_fd : -1, POLLIN, 0},
      {container_.stderr_fd, POLLIN, 0},
      {container_.oom_fd(), POLLPRI, 0},
      {container_.foreign_pidfd(), POLLIN, 0}};
  server_.Watch(entries + 5);
  if (poll(entries, 5 + Server::kPollEntries, Timeout()) > 0) {
    quiet_time_ = MonotonicClock() + kQuietTime;
  } else if (quiet_time_ != 0 && MonotonicClock() >= quiet_time_) {
    quiet_time_ = 0;
    madvise(buffers_, sizeof(*buffers_), MADV_DONTNEED);
    GiveBackStack();
  }
  if (stdout_.retry_time != 0 && MonotonicClock() >= stdout_.retry_time) {
    stdout_.retry_time = 0;
  }
  if (entries[3].revents != 0) {
    container_.ReadOomKills();
  }
  if (entries[1].revents != 0) {
    ReadOutput(&container_.stdout_fd, &stdout_, kStreamStdout);
  }
  if (entries[2].revents != 0) {
    ReadOutput(&container_.stderr_fd, &stderr_, kStreamStderr);
  }
  FlushLines(false);
  server_.Handle(entries + 5);
  if (entries[0].revents != 0) {
    container_.Reap();
  }
  if (entries[4].revents != 0) {
    container_.InitVanished();
  }
  if (container_.exited()) {
    stdout_.retry_time = 0;  // Nobody will open the terminal again.
  }
}

void Monitor::ReadOutput(int* fd, Output* output, uint32_t stream) {
  char* room = output->lines.room();
  const ssize_t length = read(*fd, room, output->lines.room_size());
  if (length > 0) {
    server_.Broadcast(stream, room, static_cast<size_t>(length));
    output->lines.Added(static_cast<size_t>(length), &log_);
  } else if (length < 0 && errno == EAGAIN) {
    return;
  } else if (options_.terminal && !container_.exited()) {
    output->retry_time = MonotonicClock() + kTerminalRetry;
  } else {
    container_.CloseOutput(fd);
  }
}

// Logs the unfinished lines that have waited long enough, or all.
void Monitor::FlushLines(bool all) {
  const int64_t now = MonotonicClock();
  Output* const outputs[] = {&stdout_, &stderr_};
  for (Output* output : outputs) {
    const int64_t due = output->lines.flush_time();
    if (due != 0 && (all || now >= due)) {
      output->lines.Flush(&log_);
    }
  }
}

void Monitor::WriteExit() {
  const Exit& exit = container_.exit();
  Text<256> text;
  text.Add(kExitFileMagic).Add("\ncode ").AddNumber(exit.code);
  text.Add("\nsignal ").AddNumber(exit.signal).Add("\noom ").AddNumber(exit.oom_kills);
  text.Add("\ntime ").AddNumber(exit.time_ns).Add("\ndropped ");
  text.AddNumber(static_cast<int64_t>(log_.dropped())).Add("\n");
  constexpr char kTemporary[] = "exit.tmp";
  const int fd =
      openat(state_dir_, kTemporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  // Without the file clients still hear of the exit from kExited.
  if (fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size())) {
    renameat(state_dir_, kTemporary, state_dir_, kExitFile);
  }
  close(fd);
}

// Blocks SIGCHLD for the signalfd and ignores what a shutdown or a terminal sends around.
int PrepareSignals() {
  constexpr int kIgnored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};
  for (int number : kIgnored) {
    signal(number, SIG_IGN);
  }
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_SETMASK, &child, nullptr);
  return signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
}

int Main(int argc, char** argv) {
  static Options options;
  const char* error = nullptr;
  const char* argument = nullptr;
  switch (ParseOptions(argc, argv, &options, &error, &argument)) {
    case ParseResult::kHelp:
      return write(STDOUT_FILENO, kUsage, strlen(kUsage)) < 0 ? 1 : 0;
    case ParseResult::kError:
      Complain("crisp-monitor", error, argument);
      return 2;
    case ParseResult::kRun:
      break;
  }
  // The parent ends at once: the daemon, or the daemon after it, never has a zombie of ours.
  if (const pid_t child = fork(); child != 0) {
    _exit(child < 0 ? 1 : 0);
  }
  setsid();
  umask(022);
  fcntl(options.handshake_fd, F_SETFD, FD_CLOEXEC);
  const int signal_fd = PrepareSignals();
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) {
    dup2(null, fd);
  }
  close(null);
  const int state_dir = open(options.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int lock =
      state_dir < 0 ? -1
                    : openat(state_dir, kLockFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (signal_fd < 0 || lock < 0 || chdir("/") != 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
    Text<256> words;
    words.Add("state directory: ").Add(strerror(errno));
    TellFailed(options.handshake_fd, -1, words.data());
    return 1;
  }
  void* const memory = mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    TellFailed(options.handshake_fd, -1, "no memory");
    return 1;
  }
  static Monitor monitor(options, state_dir, signal_fd, static_cast<Memory*>(memory));
  return monitor.Run(lock);
}

}  // namespace
}  // namespace conmon

int main(int argc, char** argv) { return conmon::Main(argc, argv); }
