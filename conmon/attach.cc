#include "conmon/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "conmon/system.h"

namespace conmon {
namespace {

constexpr int64_t kLastWordsTime = 500 * kMillisecond;

// What an attached client may be behind by, in the kernel's buffer.
constexpr int kClientBuffer = 1 << 20;

template <typename T>
iovec Piece(T& object) {
  return {&object, sizeof(object)};
}

}  // namespace

int Server::Listen(int state_dir) {
  Text<sizeof(sockaddr_un::sun_path)> path;  // By the descriptor: the real path may be too long.
  path.Add("/proc/self/fd/").AddNumber(state_dir).Add("/").Add(kSocketFile);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  unlinkat(state_dir, kSocketFile, 0);
  listener_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const mode_t mask = umask(0177);
  const bool bound = listener_ >= 0 &&
                     bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  umask(mask);
  return bound && listen(listener_, 64) == 0 ? 0 : errno;
}

void Server::Watch(pollfd* entries) const {
  const bool pending = pending_start_ != pending_end_;
  entries[0] = {listener_, POLLIN, 0};
  entries[1] = {pending ? container_.stdin_fd : -1, POLLOUT, 0};
  for (size_t i = 0; i < kMaxClients; ++i) {
    const bool paused = pending && (clients_[i].streams & kStreamStdin) != 0;
    entries[2 + i] = {paused ? -1 : clients_[i].fd, POLLIN, 0};
  }
}

void Server::Handle(const pollfd* entries) {
  if (entries[1].revents != 0) {
    WriteStdin();
  }
  for (size_t i = 0; i < kMaxClients; ++i) {
    // One client's packet may pause or drop the next ones.
    if (entries[2 + i].revents != 0 && clients_[i].fd == entries[2 + i].fd) {
      const bool paused = pending_start_ != pending_end_ && (clients_[i].streams & kStreamStdin);
      if (!paused) {
        Receive(&clients_[i]);
      }
    }
  }
  if (entries[0].revents != 0) {
    Accept();
  }
}

void Server::Accept() {
  const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    return;
  }
  for (Client& client : clients_) {
    if (client.fd < 0) {
      client = {fd, 0};
      SendState(&client, 0);
      return;
    }
  }
  close(fd);
}

void Server::Receive(Client* client) {
  Header header = {};
  iovec vectors[] = {Piece(header), {payload_, kPayloadSize - 1}};
  msghdr message = {};
  message.msg_iov = vectors;
  message.msg_iovlen = 2;
  const ssize_t length = recvmsg(client->fd, &message, MSG_DONTWAIT);
  if (length < 0 && errno == EAGAIN) {
    return;
  }
  if (length < static_cast<ssize_t>(sizeof(header)) || (message.msg_flags & MSG_TRUNC) != 0) {
    Drop(client);
    return;
  }
  const size_t payload_length = static_cast<size_t>(length) - sizeof(header);
  payload_[payload_length] = '\0';
  Answer(client, header, payload_length);
}

void Server::Answer(Client* client, const Header& header, size_t length) {
  int error = ENOSYS;
  switch (static_cast<MessageType>(header.type)) {
    case MessageType::kStdin:
      if ((client->streams & kStreamStdin) != 0) {
        TakeStdin(length);
      }
      return;
    case MessageType::kStdinEnd:
      EndStdin(*client);
      client->streams &= ~static_cast<uint32_t>(kStreamStdin);
      return;
    case MessageType::kGetState:
      SendState(client, header.sequence);
      return;
    case MessageType::kReopenLog:
      error = payload_[0] != '/' || strlen(payload_) != length ? EINVAL : log_.Open(payload_);
      break;
    case MessageType::kResize:
      error = Resize(length);
      break;
    case MessageType::kAttach:
      error = Attach(client, length);
      break;
    case MessageType::kStart:
      error = container_.StartSandboxed();
      break;
    case MessageType::kGiveUp:
      error = container_.GiveUp();
      break;
    default:
      break;
  }
  SendReply(client, header.sequence, error);
}

int Server::Resize(size_t length) const {
  struct Resize size = {};
  memcpy(&size, payload_, length < sizeof(size) ? length : sizeof(size));
  if (!options_.terminal || container_.stdout_fd < 0) {
    return ENOTTY;
  }
  winsize window = {};
  window.ws_col = static_cast<unsigned short>(size.width < 0xffff ? size.width : 0xffff);
  window.ws_row = static_cast<unsigned short>(size.height < 0xffff ? size.height : 0xffff);
  return ioctl(container_.stdout_fd, TIOCSWINSZ, &window) == 0 ? 0 : errno;
}

int Server::Attach(Client* client, size_t length) {
  struct Attach request = {};
  memcpy(&request, payload_, length < sizeof(request) ? length : sizeof(request));
  size_t attached = 0;
  for (const Client& other : clients_) {
    attached += other.streams != 0 ? 1 : 0;
  }
  if (request.streams == 0 || client->streams != 0) {
    return EINVAL;
  }
  if (attached >= kMaxAttached) {
    return EBUSY;
  }
  setsockopt(client->fd, SOL_SOCKET, SO_SNDBUFFORCE, &kClientBuffer, sizeof(kClientBuffer));
  client->streams = request.streams;
  return 0;
}

void Server::SendState(Client* client, uint32_t sequence) {
  Header header = {static_cast<uint32_t>(MessageType::kState), sequence};
  State state = {};
  state.version = kProtocolVersion;
  state.pid = container_.pid();
  state.dropped_lines = log_.dropped();
  state.flags = (options_.terminal ? kHasTerminal : 0u) |
                (container_.stdin_fd >= 0 ? kStdinOpen : 0u) |
                (container_.exited() ? kInitExited : 0u);
  container_.ReadOomKills();
  state.oom_kills = container_.oom_kills();
  state.monitor_pid = getpid();
  state.log_error = log_.error();
  const iovec pieces[] = {Piece(header), Piece(state)};
  Send(client, pieces, 2, container_.pidfd());
}

void Server::SendReply(Client* client, uint32_t sequence, int error) {
  Header header = {static_cast<uint32_t>(MessageType::kReply), sequence};
  Reply reply = {error};
  const iovec pieces[] = {Piece(header), Piece(reply)};
  Send(client, pieces, 2);
}

void Server::Broadcast(uint32_t stream, const char* data, size_t length) {
  Header header = {static_cast<uint32_t>(MessageType::kOutput), 0};
  Output output = {stream};
  for (Client& client : clients_) {
    for (size_t sent = 0; (client.streams & stream) != 0 && sent < length;) {
      const size_t part = length - sent < kMaxData ? length - sent : kMaxData;
      const iovec pieces[] = {Piece(header), Piece(output), {const_cast<char*>(data) + sent, part}};
      Send(&client, pieces, 3);
      sent += part;
    }
  }
}

void Server::Send(Client* client, const iovec* pieces, size_t count, int passed_fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(pieces);
  message.msg_iovlen = static_cast<int>(count);
  if (passed_fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &passed_fd, sizeof(passed_fd));
  }
  if (sendmsg(client->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    Drop(client);
  }
}

void Server::TakeStdin(size_t length) {
  // Only one packet is ever pending, so the buffer is empty here.
  pending_start_ = 0;
  pending_end_ = length < kPendingSize ? length : kPendingSize;
  memcpy(pending_, payload_, pending_end_);
  WriteStdin();
}

void Server::WriteStdin() {
  while (container_.stdin_fd >= 0 && pending_start_ != pending_end_) {
    const ssize_t written =
        write(container_.stdin_fd, pending_ + pending_start_, pending_end_ - pending_start_);
    if (written < 0 && errno == EAGAIN) {
      return;
    }
    if (written < 0) {
      container_.CloseStdin();
      break;
    }
    pending_start_ += static_cast<size_t>(written);
  }
  pending_start_ = pending_end_ = 0;
}

// A client that feeds stdin has ended.
void Server::EndStdin(const Client& client) {
  if ((client.streams & kStreamStdin) != 0 && options_.stdin_once) {
    container_.CloseStdin();
    pending_start_ = pending_end_ = 0;
  }
}

void Server::Drop(Client* client) {
  if (client->fd < 0) {
    return;
  }
  // Unread input would turn the client's last read into an error.
  for (int i = 0; i < 1024 && recv(client->fd, payload_, 0, MSG_DONTWAIT | MSG_TRUNC) > 0; ++i) {
  }
  close(client->fd);
  const Client ended = *client;
  *client = Client();
  EndStdin(ended);
}

void Server::Finish(int state_dir) {
  const Exit& exit = container_.exit();
  Header header = {static_cast<uint32_t>(MessageType::kExited), 0};
  Exited exited = {exit.code, exit.signal, exit.oom_kills, 0, exit.time_ns};
  const iovec pieces[] = {Piece(header), Piece(exited)};
  unlinkat(state_dir, kSocketFile, 0);
  close(listener_);
  // Those first that can take it at once, the daemon among them; then a reader that is a little
  // behind gets a moment, so that the last output does not cost it the exit.
  const int64_t deadline = MonotonicClock() + kLastWordsTime;
  for (int round = 0; round < 2; ++round) {
    const bool wait = round > 0;
    for (Client& client : clients_) {
      pollfd writable = {client.fd, POLLOUT, 0};
      if (client.fd >= 0 &&
          (poll(&writable, 1, wait ? MillisecondsUntil(deadline) : 0) > 0 || wait)) {
        Send(&client, pieces, 2);
        Drop(&client);
      }
    }
  }
}

}  // namespace conmon
