#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {
namespace {

// Waits until `fd` has one of `events`, or the context ends.
absl::Status PollFd(const base::Context& ctx, int fd, short events) {
  for (;;) {
    RETURN_IF_ERROR(ctx.Check());
    pollfd fds[2] = {{fd, events, 0}, {ctx.cancel_fd(), POLLIN, 0}};
    const int ready = poll(fds, 2, ctx.PollTimeout());
    if (ready < 0 && errno != EINTR) {
      return base::ErrnoStatus(errno, "poll");
    }
    if (ready > 0 && fds[0].revents != 0) {
      return absl::OkStatus();
    }
  }
}

}  // namespace

absl::StatusOr<std::optional<std::string>> FrameReader::Next() {
  const size_t available = buffer_.size() - consumed_;
  size_t length = 0;
  if (available >= 4) {
    for (size_t i = 0; i < 4; ++i) {
      length = length << 8 | static_cast<unsigned char>(buffer_[consumed_ + i]);
    }
    if (length > max_bytes_) {
      return absl::ResourceExhaustedError(base::StrCat("a message of ", length, " bytes"));
    }
  }
  if (available < 4 || available - 4 < length) {
    buffer_.erase(0, consumed_);
    consumed_ = 0;
    return std::nullopt;
  }
  std::string frame = buffer_.substr(consumed_ + 4, length);
  consumed_ += 4 + length;
  if (consumed_ == buffer_.size()) {
    std::string().swap(buffer_);  // A large frame's memory is not kept.
    consumed_ = 0;
  }
  return frame;
}

absl::Status Channel::Send(const base::Context& ctx, std::string_view json) {
  if (json.size() > kMaxFrameBytes) {
    return absl::ResourceExhaustedError(base::StrCat("a message of ", json.size(), " bytes"));
  }
  std::string frame;
  frame.reserve(4 + json.size());
  for (int shift = 24; shift >= 0; shift -= 8) {
    frame += static_cast<char>(json.size() >> shift & 0xff);
  }
  frame += json;
  const base::MutexLock lock(&send_mutex_);
  for (size_t sent = 0; sent < frame.size();) {
    const ssize_t n =
        send(socket_.get(), frame.data() + sent, frame.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      sent += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      RETURN_IF_ERROR(PollFd(ctx, socket_.get(), POLLOUT));
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return absl::UnavailableError("the peer is gone");
    } else if (errno != EINTR) {
      return base::ErrnoStatus(errno, "send");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> Channel::TryReceive() {
  for (;;) {
    ASSIGN_OR_RETURN(std::optional<std::string> frame, reader_.Next());
    if (frame.has_value()) {
      return frame;
    }
    char buffer[16384];
    const ssize_t n = recv(socket_.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (n > 0) {
      reader_.Append(std::string_view(buffer, static_cast<size_t>(n)));
    } else if (n == 0 || errno == ECONNRESET) {
      return reader_.InFrame() ? absl::UnavailableError("the peer ended within a message")
                               : absl::OutOfRangeError("the peer closed the connection");
    } else if (errno == EAGAIN) {
      return std::nullopt;
    } else if (errno != EINTR) {
      return base::ErrnoStatus(errno, "receive");
    }
  }
}

absl::StatusOr<std::string> Channel::Receive(const base::Context& ctx) {
  for (;;) {
    ASSIGN_OR_RETURN(std::optional<std::string> frame, TryReceive());
    if (frame.has_value()) {
      return *std::move(frame);
    }
    RETURN_IF_ERROR(PollFd(ctx, socket_.get(), POLLIN));
  }
}

}  // namespace imageservice::worker
