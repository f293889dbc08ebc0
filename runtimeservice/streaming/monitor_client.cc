#include "runtimeservice/streaming/monitor_client.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace streaming {
namespace {

// Packets in a row, before others have their turn.
constexpr int kMostAtOnce = 8;

}  // namespace

absl::Status MonitorClient::Connect(const std::string& path) {
  const size_t slash = path.rfind('/');
  const absl::StatusOr<base::UniqueFd> folder =
      base::Open(path.substr(0, slash), O_PATH | O_DIRECTORY | O_CLOEXEC);
  const std::string name =
      base::StrCat("/proc/self/fd/", folder.ok() ? folder->get() : -1, path.substr(slash));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (name.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(base::StrCat("connect to ", path, ": the name is too long"));
  }
  std::memcpy(address.sun_path, name.data(), name.size());
  base::UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.valid() &&
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    socket_ = Adopt(loop_, std::move(fd));
    return absl::OkStatus();
  }
  const int error = errno;
  if (!folder.ok() || error == ENOENT || error == ECONNREFUSED) {
    return absl::FailedPreconditionError("it has ended");
  }
  return base::ErrnoStatus(error, base::StrCat("connect to ", path));
}

Task<bool> MonitorClient::Receive(const OnPacket& take) {
  const bool readable = co_await Readable(socket_);
  if (!readable) {
    co_return socket_.is_open();  // Then it was another's wait that was to end.
  }
  for (int packets = 0; packets < kMostAtOnce; ++packets) {
    const Progress progress = ReceiveOne(take);
    if (progress != Progress::kMore) {
      co_return progress == Progress::kNothing;
    }
  }
  co_return true;
}

// No coroutine, so that the packet is on the stack and not in every session's frame.
MonitorClient::Progress MonitorClient::ReceiveOne(const OnPacket& take) {
  if (!socket_.is_open()) {
    return Progress::kEnd;
  }
  char packet[conmon::kMaxPacket];
  const ssize_t length = recv(socket_.native_handle(), packet, sizeof(packet), MSG_DONTWAIT);
  if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
    return Progress::kNothing;
  }
  conmon::Header header = {};
  if (length < static_cast<ssize_t>(sizeof(header))) {
    return Progress::kEnd;
  }
  std::memcpy(&header, packet, sizeof(header));
  take(static_cast<conmon::MessageType>(header.type), header.sequence,
       {packet + sizeof(header), static_cast<size_t>(length) - sizeof(header)});
  return Progress::kMore;
}

Task<absl::Status> MonitorClient::Send(conmon::MessageType type, uint32_t sequence,
                                       std::string_view payload) {
  conmon::Header header = {static_cast<uint32_t>(type), sequence};
  iovec pieces[] = {{&header, sizeof(header)}, {const_cast<char*>(payload.data()), payload.size()}};
  msghdr message = {};
  message.msg_iov = pieces;
  message.msg_iovlen = 2;
  while (socket_.is_open() &&
         sendmsg(socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      co_return absl::CancelledError(base::StrCat("the monitor: ", std::strerror(errno)));
    }
    const bool writable = co_await Writable(socket_);
    if (!writable) {
      co_return absl::CancelledError("interrupted");
    }
  }
  co_return socket_.is_open() ? absl::OkStatus() : absl::CancelledError("closed");
}

void MonitorClient::Interrupt() {
  Error ignored;
  socket_.cancel(ignored);
}

void MonitorClient::Close() {
  Error ignored;
  socket_.close(ignored);
}

}  // namespace streaming
