#include "runtimeservice/streaming/protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/sha.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace streaming {
namespace {

constexpr size_t kLengthBytes = 4;

bool IsHex(std::string_view name, size_t digits) {
  return name.size() == digits && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

size_t LengthOf(std::string_view frame) {
  size_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length = length << 8 | static_cast<unsigned char>(frame[i]);
  }
  return length;
}

absl::Status TooLong(size_t bytes) {
  return absl::ResourceExhaustedError(base::StrCat(
      "a message of ", bytes, " bytes for crisp-stream: the most are ", kMaxFrameBytes));
}

absl::Status Gone() { return absl::UnavailableError("crisp-stream has closed the connection"); }

// Until `socket` is ready for `events`.
absl::Status WaitFor(const base::Context& ctx, int socket, short events) {
  for (;;) {
    RETURN_IF_ERROR(ctx.Check());
    pollfd entries[] = {{.fd = socket, .events = events, .revents = 0},
                        {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0}};
    if (poll(entries, 2, ctx.PollTimeout()) > 0 && entries[0].revents != 0) {
      return absl::OkStatus();
    }
  }
}

absl::Status ReadExactly(const base::Context& ctx, int socket, char* data, size_t size) {
  while (size > 0) {
    const ssize_t count = recv(socket, data, size, MSG_DONTWAIT);
    if (count > 0) {
      data += count;
      size -= static_cast<size_t>(count);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
      return Gone();
    } else {
      RETURN_IF_ERROR(WaitFor(ctx, socket, POLLIN));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsInstanceName(std::string_view name) { return IsHex(name, 8); }
bool IsExecName(std::string_view name) { return IsHex(name, 16); }

absl::StatusOr<std::string> EncodeFrame(const google::protobuf::MessageLite& message) {
  const size_t size = message.ByteSizeLong();
  if (size > kMaxFrameBytes) {
    return TooLong(size);
  }
  std::string frame;
  frame.reserve(kLengthBytes + size);
  for (size_t i = kLengthBytes; i-- > 0;) {
    frame.push_back(static_cast<char>(size >> (8 * i) & 0xff));
  }
  message.AppendToString(&frame);
  return frame;
}

absl::StatusOr<std::optional<std::string>> FrameReader::Next() {
  if (buffer_.size() < kLengthBytes) {
    return std::nullopt;
  }
  const size_t length = LengthOf(buffer_);
  if (length > kMaxFrameBytes) {
    return TooLong(length);
  }
  if (buffer_.size() - kLengthBytes < length) {
    return std::nullopt;
  }
  std::string message = buffer_.substr(kLengthBytes, length);
  buffer_.erase(0, kLengthBytes + length);
  return message;
}

absl::Status SendMessage(const base::Context& ctx, int socket,
                         const google::protobuf::MessageLite& message) {
  ASSIGN_OR_RETURN(const std::string frame, EncodeFrame(message));
  std::string_view rest = frame;
  while (!rest.empty()) {
    const ssize_t count = send(socket, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      rest.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EAGAIN || errno == EINTR) {
      RETURN_IF_ERROR(WaitFor(ctx, socket, POLLOUT));
    } else {
      return Gone();
    }
  }
  return absl::OkStatus();
}

absl::Status ReceiveMessage(const base::Context& ctx, int socket,
                            google::protobuf::MessageLite* message) {
  char head[kLengthBytes];
  RETURN_IF_ERROR(ReadExactly(ctx, socket, head, sizeof(head)));
  const size_t length = LengthOf(std::string_view(head, sizeof(head)));
  if (length > kMaxFrameBytes) {
    return absl::InternalError("crisp-stream sent a frame that is too long");
  }
  std::string bytes(length, '\0');
  RETURN_IF_ERROR(ReadExactly(ctx, socket, bytes.data(), length));
  return message->ParseFromString(bytes)
             ? absl::OkStatus()
             : absl::InternalError("crisp-stream sent a frame that does not parse");
}

absl::StatusOr<base::UniqueFd> ConnectControl(const base::Context& ctx,
                                              const std::string& directory) {
  const std::string path = directory + kControlSocket;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(base::StrCat(path, " is too long for a socket"));
  }
  memcpy(address.sun_path, path.data(), path.size());
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return base::ErrnoStatus(errno, "make a socket");
  }
  // EAGAIN: the backlog is full, of which no event tells.
  while (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == EINTR) {
      continue;
    }
    if (errno != EAGAIN) {
      return absl::UnavailableError(base::ErrnoStatus(errno, path).message());
    }
    RETURN_IF_ERROR(ctx.Check());
    pollfd cancelled = {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0};
    poll(&cancelled, 1, 5);
  }
  return fd;
}

absl::StatusOr<crisp::stream::Reply> Ask(const base::Context& ctx, int socket,
                                         const crisp::stream::Request& request) {
  RETURN_IF_ERROR(SendMessage(ctx, socket, request));
  crisp::stream::Reply reply;
  RETURN_IF_ERROR(ReceiveMessage(ctx, socket, &reply));
  return reply;
}

absl::Status ReplyStatus(const crisp::stream::Reply& reply) {
  return absl::Status(static_cast<absl::StatusCode>(reply.code()), reply.message());
}

absl::StatusOr<std::string> Fingerprint(const std::string& program,
                                        const crisp::stream::Settings& settings) {
  struct stat info;
  if (stat(program.c_str(), &info) != 0) {
    return base::ErrnoStatus(errno, program);
  }
  crisp::stream::Settings plain = settings;
  plain.clear_directory();
  plain.clear_fingerprint();
  // One process of one build makes them all: fields come in order.
  return base::Sha256Hex(base::StrCat(program, "\n", info.st_dev, " ", info.st_ino, " ",
                                      info.st_size, " ", info.st_ctim.tv_sec, " ",
                                      info.st_ctim.tv_nsec, "\n", plain.SerializeAsString()));
}

}  // namespace streaming
