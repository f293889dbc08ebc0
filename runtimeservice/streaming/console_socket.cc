#include "runtimeservice/streaming/console_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace streaming {
namespace {

// The descriptor that came with one message; none when there was no message or no descriptor in it.
struct Received {
  base::UniqueFd fd;
  bool wait = false;  // Nothing has come yet.
};

Received ReceiveDescriptor(int socket) {
  char name[256];  // What runtimes send beside it: the terminal's name, which nobody needs.
  iovec piece = {name, sizeof(name)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  Received received;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0) {
    received.wait = errno == EAGAIN || errno == EINTR;
    return received;
  }
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    received.fd.Reset(fd);
  }
  return received;
}

}  // namespace

absl::Status ConsoleSocket::Listen(asio::io_context& loop, const std::string& path) {
  const size_t slash = path.rfind('/');
  ASSIGN_OR_RETURN(const base::UniqueFd folder,
                   base::Open(path.substr(0, slash), O_PATH | O_DIRECTORY | O_CLOEXEC));
  // By the folder's descriptor: the path itself may be longer than an address holds.
  const std::string name = base::StrCat("/proc/self/fd/", folder.get(), path.substr(slash));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (name.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(base::StrCat("bind ", path, ": the file's name is too long"));
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  base::UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_fd.valid() ||
      bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(socket_fd.get(), 1) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("listen at ", path));
  }
  listener_ = Adopt(loop, std::move(socket_fd));
  return absl::OkStatus();
}

Task<base::UniqueFd> ConsoleSocket::Receive() {
  while (listener_.is_open()) {
    base::UniqueFd master = ReceiveNow();
    if (master.valid()) {
      co_return master;
    }
    Descriptor& awaited = connection_.is_open() ? connection_ : listener_;
    const bool readable = co_await Readable(awaited);
    if (!readable) {
      break;
    }
  }
  co_return base::UniqueFd();
}

base::UniqueFd ConsoleSocket::ReceiveNow() {
  Error ignored;
  if (!connection_.is_open() && listener_.is_open()) {
    const int fd = accept4(listener_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) {
      connection_.assign(fd, ignored);
    }
  }
  if (!connection_.is_open()) {
    return base::UniqueFd();
  }
  Received received = ReceiveDescriptor(connection_.native_handle());
  if (!received.fd.valid() && !received.wait) {
    connection_.close(ignored);  // It had none; the next one may.
  }
  handed_over_ = handed_over_ || received.fd.valid();
  return std::move(received.fd);
}

void ConsoleSocket::Close() {
  Error ignored;
  listener_.close(ignored);
  connection_.close(ignored);
}

}  // namespace streaming
