#include "runtimeservice/oci/monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/json_log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "runtimeservice/oci/runtime.h"

namespace runtimeservice {
namespace {

using base::ErrnoStatus;
using base::StrCat;
using base::UniqueFd;
using conmon::MessageType;

// What is read of a runtime's log or of an exit file.
constexpr size_t kMaxSmallFile = 1 << 20;

// One packet as it came.
struct Packet {
  conmon::Header header = {};
  std::string payload;
  UniqueFd passed;
};

// Waits until `fd` is readable (or ended).
absl::Status WaitReadable(const Context& ctx, int fd) {
  for (;;) {
    RETURN_IF_ERROR(ctx.Check());
    std::array<pollfd, 2> entries = {{{fd, POLLIN, 0}, {ctx.cancel_fd(), POLLIN, 0}}};
    if (poll(entries.data(), entries.size(), ctx.PollTimeout()) < 0 && errno != EINTR) {
      return ErrnoStatus(errno, "poll");
    }
    if (entries[0].revents != 0) {
      return absl::OkStatus();
    }
  }
}

// The descriptor that came with `message`, if any.
UniqueFd PassedFd(const msghdr& message) {
  const cmsghdr* control = CMSG_FIRSTHDR(&message);
  if (control == nullptr || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS ||
      control->cmsg_len < CMSG_LEN(sizeof(int))) {
    return UniqueFd();
  }
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(control), sizeof(fd));
  return UniqueFd(fd);
}

// The next packet; UNAVAILABLE when the monitor has ended.
absl::StatusOr<Packet> Receive(const Context& ctx, int fd) {
  for (;;) {
    RETURN_IF_ERROR(WaitReadable(ctx, fd));
    Packet packet;
    packet.payload.resize(conmon::kMaxPacket);
    std::array<iovec, 2> vectors = {
        {{&packet.header, sizeof(packet.header)}, {packet.payload.data(), packet.payload.size()}}};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
    msghdr message = {};
    message.msg_iov = vectors.data();
    message.msg_iovlen = vectors.size();
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
      continue;
    }
    if (length < 0 && errno != ECONNRESET) {
      return ErrnoStatus(errno, "monitor: recvmsg");
    }
    if (length < static_cast<ssize_t>(sizeof(packet.header))) {
      return absl::UnavailableError("the monitor has ended");
    }
    packet.passed = PassedFd(message);
    packet.payload.resize(static_cast<size_t>(length) - sizeof(packet.header));
    return packet;
  }
}

absl::Status Send(int fd, MessageType type, uint32_t sequence, std::string_view payload = "") {
  const conmon::Header header = {static_cast<uint32_t>(type), sequence};
  std::string packet(reinterpret_cast<const char*>(&header), sizeof(header));
  packet.append(payload);
  while (send(fd, packet.data(), packet.size(), MSG_NOSIGNAL) < 0) {
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) {
      return absl::UnavailableError("the monitor has ended");
    }
    if (errno != EINTR) {
      return ErrnoStatus(errno, "monitor: send");
    }
  }
  return absl::OkStatus();
}

// The struct at the start of a payload. Members that an older monitor does not send stay zero.
template <typename T>
T Unpack(std::string_view payload) {
  T value = {};
  std::memcpy(&value, payload.data(), std::min(sizeof(value), payload.size()));
  return value;
}

template <typename T>
std::string_view Pack(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// The packet of that type on the handshake, or what the monitor's kFailed says.
absl::StatusOr<Packet> Expect(const Context& ctx, int fd, MessageType type,
                              const std::string& state_dir) {
  ASSIGN_OR_RETURN(Packet packet, Receive(ctx, fd));
  if (packet.header.type == static_cast<uint32_t>(type)) {
    return packet;
  }
  if (packet.header.type != static_cast<uint32_t>(MessageType::kFailed)) {
    return absl::InternalError(StrCat("unexpected message ", packet.header.type));
  }
  const int status = Unpack<conmon::Failed>(packet.payload).exit_status;
  std::string words =
      packet.payload.substr(std::min(sizeof(conmon::Failed), packet.payload.size()));
  if (status < 0) {
    return absl::UnknownError(words);
  }
  const absl::StatusOr<std::string> log =
      base::ReadFile(StrCat(state_dir, "/", conmon::kRuntimeLogFile), kMaxSmallFile);
  const std::string last = log.ok() ? base::LastLogError(*log) : "";
  while (!words.empty() && words.back() == '\n') {
    words.pop_back();
  }
  return absl::UnknownError(!last.empty()    ? last
                            : !words.empty() ? words
                                             : StrCat("exit status ", status));
}

std::vector<std::string> Arguments(const MonitorSpec& spec) {
  std::vector<std::string> argv = {spec.monitor_path, "--id",        spec.container_id, "--bundle",
                                   spec.bundle,       "--state-dir", spec.state_dir};
  if (!spec.log_path.empty()) {
    argv.insert(argv.end(), {"--log", spec.log_path});
  }
  const std::array<std::pair<bool, const char*>, 5> flags = {{{spec.terminal, "--terminal"},
                                                              {spec.has_stdin, "--stdin"},
                                                              {spec.stdin_once, "--stdin-once"},
                                                              {spec.own_stdin, "--own-stdin"},
                                                              {spec.sandboxed, "--sandboxed"}}};
  for (const auto& [set, name] : flags) {
    if (set) {
      argv.emplace_back(name);
    }
  }
  if (!spec.cgroup.empty()) {
    for (const std::string& directory : base::CgroupDirectories(spec.cgroup)) {
      argv.insert(argv.end(), {"--cgroup", directory});
    }
  }
  argv.emplace_back("--");
  argv.insert(argv.end(), spec.runtime.begin(), spec.runtime.end());
  return argv;
}

absl::Status LockFile(int fd) {
  return flock(fd, LOCK_EX | LOCK_NB) == 0 ? absl::OkStatus() : ErrnoStatus(errno, "flock");
}

}  // namespace

absl::StatusOr<NewMonitor> NewMonitor::Launch(const Context& ctx, const base::Launcher& launcher,
                                              const MonitorSpec& spec) {
  int pair[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return ErrnoStatus(errno, "socketpair");
  }
  NewMonitor monitor(UniqueFd(pair[0]), spec.state_dir);
  UniqueFd theirs(pair[1]);
  base::Command command;
  command.argv = Arguments(spec);
  command.env = RuntimeEnvironment();
  command.env.insert(command.env.end(), spec.environment.begin(), spec.environment.end());
  command.directory = "/";
  command.extra_fds = {{3, theirs.get()}};
  base::Launcher::Options options;
  options.oom_score_adj = spec.oom_score_adj;
  options.cgroup = "-";  // It joins its own: the work cgroup dies with the daemon.
  // It puts itself in the background at once; what is waited for here is only its start.
  const absl::StatusOr<base::CommandResult> result =
      base::RunCommand(ctx, launcher.Wrap(std::move(command), options));
  if (!result.ok()) {
    return base::Annotate(result.status(), "start monitor");
  }
  theirs.Reset();
  absl::StatusOr<Packet> packet =
      Expect(ctx, monitor.handshake_.get(), MessageType::kReady, spec.state_dir);
  if (!packet.ok()) {
    return base::Annotate(packet.status(), StrCat("start monitor", result->err.empty() ? "" : ": ",
                                                  result->err.substr(0, result->err.find('\n'))));
  }
  const auto ready = Unpack<conmon::Ready>(packet->payload);
  if (ready.version != conmon::kProtocolVersion) {
    return absl::FailedPreconditionError(
        StrCat("monitor ", spec.monitor_path, " speaks version ", ready.version));
  }
  monitor.monitor_pid_ = ready.monitor_pid;
  return monitor;
}

absl::StatusOr<pid_t> NewMonitor::Create(const Context& ctx) {
  RETURN_IF_ERROR(Send(handshake_.get(), MessageType::kGo, 0));
  ASSIGN_OR_RETURN(Packet packet, Expect(ctx, handshake_.get(), MessageType::kCreated, state_dir_));
  return Unpack<conmon::Created>(packet.payload).pid;
}

absl::Status NewMonitor::Acknowledge() {
  RETURN_IF_ERROR(base::Annotate(Send(handshake_.get(), MessageType::kAcknowledge, 0),
                                 "acknowledge container"));
  handshake_.Reset();
  return absl::OkStatus();
}

absl::Status NewMonitor::Abandon(const Context& ctx) {
  handshake_.Reset();
  return base::Annotate(TakeMonitorLock(ctx, state_dir_).status(), "abandon monitor");
}

absl::StatusOr<MonitorConnection> MonitorConnection::Connect(const Context& ctx,
                                                             const std::string& state_dir) {
  ASSIGN_OR_RETURN(UniqueFd directory, base::Open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC));
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return ErrnoStatus(errno, "socket");
  }
  // A socket's address holds 107 bytes; the state directory may need more.
  const std::string path = StrCat("/proc/self/fd/", directory.get(), "/", conmon::kSocketFile);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    const std::string what = StrCat("connect to monitor in ", state_dir);
    return errno == ECONNREFUSED || errno == ENOENT
               ? absl::NotFoundError(StrCat(what, ": none listens"))
               : ErrnoStatus(errno, what);
  }
  MonitorConnection connection(std::move(fd), state_dir);
  absl::Status status = connection.ReceiveState(ctx, 0);
  if (absl::IsUnavailable(status)) {
    return absl::NotFoundError(StrCat("connect to monitor in ", state_dir, ": it has ended"));
  }
  RETURN_IF_ERROR(base::Annotate(status, StrCat("connect to monitor in ", state_dir)));
  return connection;
}

absl::Status MonitorConnection::ReceiveState(const Context& ctx, uint32_t sequence) {
  for (;;) {
    ASSIGN_OR_RETURN(Packet packet, Receive(ctx, fd_.get()));
    if (packet.header.type != static_cast<uint32_t>(MessageType::kState) ||
        packet.header.sequence != sequence) {
      continue;
    }
    const auto state = Unpack<conmon::State>(packet.payload);
    state_.version = state.version;
    state_.pid = state.pid;
    state_.monitor_pid = state.monitor_pid;
    state_.dropped_lines = static_cast<int64_t>(state.dropped_lines);
    state_.log_error = state.log_error;
    state_.oom_kills = state.oom_kills;
    state_.terminal = (state.flags & conmon::kHasTerminal) != 0;
    state_.stdin_open = (state.flags & conmon::kStdinOpen) != 0;
    state_.init_exited = (state.flags & conmon::kInitExited) != 0;
    if (!pidfd_.valid()) {
      pidfd_ = std::move(packet.passed);
    }
    return absl::OkStatus();
  }
}

absl::Status MonitorConnection::RefreshState(const Context& ctx) {
  const uint32_t sequence = ++sequence_;
  RETURN_IF_ERROR(
      base::Annotate(Send(fd_.get(), MessageType::kGetState, sequence), "ask monitor for state"));
  return base::Annotate(ReceiveState(ctx, sequence), "ask monitor for state");
}

absl::Status MonitorConnection::Request(const Context& ctx, MessageType type,
                                        std::string_view payload, std::string_view what) {
  const uint32_t sequence = ++sequence_;
  RETURN_IF_ERROR(base::Annotate(Send(fd_.get(), type, sequence, payload), what));
  for (;;) {
    absl::StatusOr<Packet> packet = Receive(ctx, fd_.get());
    if (!packet.ok()) {
      return base::Annotate(packet.status(), what);
    }
    if (packet->header.type != static_cast<uint32_t>(MessageType::kReply) ||
        packet->header.sequence != sequence) {
      continue;  // The answer to a request that was given up, or news of the end.
    }
    const int error = Unpack<conmon::Reply>(packet->payload).error;
    if (error == ENOTTY) {
      return absl::FailedPreconditionError(StrCat(what, ": it has no terminal"));
    }
    if (error == EBUSY) {
      return absl::ResourceExhaustedError(StrCat(what, ": too many are attached"));
    }
    return error == 0 ? absl::OkStatus() : ErrnoStatus(error, what);
  }
}

absl::Status MonitorConnection::Start(const Context& ctx) {
  absl::Status started = Request(ctx, MessageType::kStart, "", "start by the monitor");
  if (started.ok() || absl::IsDeadlineExceeded(started) || absl::IsCancelled(started)) {
    return started;
  }
  const std::string last = base::LastLogError(
      base::ReadFile(StrCat(state_dir_, "/", conmon::kRuntimeLogFile), kMaxSmallFile).value_or(""));
  return last.empty() ? started : absl::UnknownError(StrCat("runtime: ", last));
}

absl::Status MonitorConnection::GiveUp(const Context& ctx) {
  return Request(ctx, MessageType::kGiveUp, "", "give up a start");
}

absl::Status MonitorConnection::ReopenLog(const Context& ctx, const std::string& path) {
  return Request(ctx, MessageType::kReopenLog, path, StrCat("reopen log ", path));
}

absl::Status MonitorConnection::Resize(const Context& ctx, uint32_t width, uint32_t height) {
  const conmon::Resize size = {width, height};
  return Request(ctx, MessageType::kResize, Pack(size), "resize terminal");
}

absl::Status MonitorConnection::Attach(const Context& ctx, uint32_t streams) {
  const conmon::Attach attach = {streams};
  return Request(ctx, MessageType::kAttach, Pack(attach), "attach");
}

absl::StatusOr<ExitRecord> ParseExitRecord(std::string_view text) {
  std::vector<std::string> lines = absl::StrSplit(base::ToAbsl(text), '\n');
  if (lines.size() < 2 || lines.front() != conmon::kExitFileMagic || !lines.back().empty()) {
    return absl::DataLossError("not an exit record");
  }
  ExitRecord record;
  int64_t code = -1;
  int64_t signal = 0;
  int64_t time = -1;
  const std::array<std::pair<std::string_view, int64_t*>, 5> names = {
      {{"code", &code},
       {"signal", &signal},
       {"oom", &record.oom_kills},
       {"time", &time},
       {"dropped", &record.dropped_lines}}};
  for (size_t i = 1; i + 1 < lines.size(); ++i) {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(lines[i], absl::MaxSplits(' ', 1));
    for (const auto& [name, value] : names) {
      if (pair.first == name && !absl::SimpleAtoi(pair.second, value)) {
        return absl::DataLossError(StrCat("exit record: not a number: ", lines[i]));
      }
    }
  }
  if (code < 0 || code > 255 || time < 0) {
    return absl::DataLossError("exit record: no code or no time");
  }
  record.code = static_cast<int>(code);
  record.signal = static_cast<int>(signal);
  record.time = absl::FromUnixNanos(time);
  return record;
}

absl::StatusOr<std::optional<ExitRecord>> ReadExit(const std::string& state_dir) {
  const std::string path = StrCat(state_dir, "/", conmon::kExitFile);
  absl::StatusOr<std::string> text = base::ReadFile(path, kMaxSmallFile);
  if (absl::IsNotFound(text.status())) {
    return std::nullopt;
  }
  RETURN_IF_ERROR(text.status());
  absl::StatusOr<ExitRecord> record = ParseExitRecord(*text);
  RETURN_IF_ERROR(base::Annotate(record.status(), path));
  return *record;
}

bool MonitorAlive(const std::string& state_dir) {
  const absl::StatusOr<UniqueFd> lock =
      base::Open(StrCat(state_dir, "/", conmon::kLockFile), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  return lock.ok() && !LockFile(lock->get()).ok();
}

absl::StatusOr<UniqueFd> TakeMonitorLock(const Context& ctx, const std::string& state_dir) {
  const std::string path = StrCat(state_dir, "/", conmon::kLockFile);
  ASSIGN_OR_RETURN(UniqueFd lock, base::Open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW));
  while (!LockFile(lock.get()).ok()) {
    RETURN_IF_ERROR(base::Annotate(ctx.Check(), path));
    ASSIGN_OR_RETURN(std::string text, base::ReadFile(path, kMaxSmallFile));
    int pid = 0;
    UniqueFd holder;
    if (absl::SimpleAtoi(text, &pid) && pid > 1) {
      holder.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    }
    // The holder's end frees the lock. One that has not yet written its pid, or whose number is
    // stale, is looked at again soon.
    std::array<pollfd, 2> entries = {{{holder.get(), POLLIN, 0}, {ctx.cancel_fd(), POLLIN, 0}}};
    constexpr int kRetryMilliseconds = 20;
    const int limit = ctx.PollTimeout();
    const int timeout = limit < 0 || limit > kRetryMilliseconds ? kRetryMilliseconds : limit;
    poll(entries.data(), entries.size(), timeout);
  }
  return lock;
}

}  // namespace runtimeservice
