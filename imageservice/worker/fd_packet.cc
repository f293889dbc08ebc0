#include "imageservice/worker/fd_packet.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status_macros.h"

namespace imageservice::worker {
namespace {

// Takes the descriptors out of a received message, whatever else is wrong with it.
std::vector<base::UniqueFd> TakeDescriptors(msghdr* message) {
  std::vector<base::UniqueFd> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr;
       header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

}  // namespace

absl::Status SendPacket(int socket, std::string_view bytes, const std::vector<int>& fds) {
  if (bytes.empty() || bytes.size() > kMaxPacketBytes || fds.size() > kMaxPacketFds) {
    return absl::InternalError("a packet out of bounds");
  }
  iovec text = {const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPacketFds * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
    if (errno == EPIPE || errno == ECONNRESET) {
      return absl::UnavailableError("the peer is gone");
    }
    if (errno != EINTR) {
      return base::ErrnoStatus(errno, "send a packet");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<FdPacket>> ReceivePacket(int socket, Wait wait) {
  char bytes[kMaxPacketBytes];
  iovec text = {bytes, sizeof(bytes)};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPacketFds * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const int flags = MSG_CMSG_CLOEXEC | (wait == Wait::kNever ? MSG_DONTWAIT : 0);
  ssize_t n = 0;
  while ((n = recvmsg(socket, &message, flags)) < 0 && errno == EINTR) {
  }
  if (n < 0 && errno == EAGAIN) {
    return std::nullopt;
  }
  if (n < 0 && errno != ECONNRESET) {
    return base::ErrnoStatus(errno, "receive a packet");
  }
  FdPacket packet;
  if (n >= 0) {
    packet.fds = TakeDescriptors(&message);
  }
  if (n <= 0) {
    return absl::OutOfRangeError("the peer closed the connection");
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return absl::InvalidArgumentError("a packet too long");
  }
  packet.bytes.assign(bytes, static_cast<size_t>(n));
  return packet;
}

}  // namespace imageservice::worker
