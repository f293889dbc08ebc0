// What the daemon and crisp-stream say to each other, and where (proto/stream.proto has the
// messages). Boost-free: the daemon links this and no more of the folder.
//
// Transport: SOCK_STREAM. Each message is a frame: four bytes of length, big endian, then that many
// bytes of protobuf. A frame longer than kMaxFrameBytes or one that does not parse is a protocol
// error: the reader closes the connection.
//
//   daemon → crisp-stream   Settings   first, on descriptor kStartSocket
//   crisp-stream → daemon   Started    on the same; then both close it
//
// From then on requests come over the control socket, any number on one connection, each answered
// in order. Its end is the end of the process: who watches a connection learns of it.
//
// An instance's folder belongs to the process that holds the flock(2) on its lock file. When the
// lock is free the process is dead or was never born, and the folder may be swept.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/unique_fd.h"
#include "proto/stream.pb.h"

namespace streaming {

inline constexpr int kStartSocket = 3;
inline constexpr size_t kMaxFrameBytes = 8 << 20;

// Files of an instance; names follow the folder's path. Every other name in it is the folder of an
// exec (exec_files.h).
inline constexpr char kLockFile[] = "/lock";
inline constexpr char kControlSocket[] = "/sock";
inline constexpr char kCgroupFile[] =
    "/cgroup";  // The instance's cgroup; written before it exists.

// Whether a folder may be an instance's (8 hexadecimal digits) or an exec's (16).
bool IsInstanceName(std::string_view name);
bool IsExecName(std::string_view name);

// The frame of a message. RESOURCE_EXHAUSTED when it would be too long.
absl::StatusOr<std::string> EncodeFrame(const google::protobuf::MessageLite& message);

// The frames in a stream of bytes that arrives in pieces.
class FrameReader {
 public:
  void Append(std::string_view bytes) { buffer_.append(bytes); }
  // The bytes of the next whole message, nothing when more are needed; RESOURCE_EXHAUSTED for a
  // frame too long.
  absl::StatusOr<std::optional<std::string>> Next();

 private:
  std::string buffer_;
};

// Sends one message; blocks while the peer does not read, at most until the context's end.
// UNAVAILABLE when the peer is gone.
absl::Status SendMessage(const base::Context& ctx, int socket,
                         const google::protobuf::MessageLite& message);
// Waits for the next message. UNAVAILABLE when the peer is gone, INTERNAL when it sends something
// else. Reads no byte beyond it.
absl::Status ReceiveMessage(const base::Context& ctx, int socket,
                            google::protobuf::MessageLite* message);

// Connects to the control socket in `directory`. UNAVAILABLE when nobody listens there.
absl::StatusOr<base::UniqueFd> ConnectControl(const base::Context& ctx,
                                              const std::string& directory);
// Asks over `socket`. Errors of the transport are as above; the reply's own code is in it.
absl::StatusOr<crisp::stream::Reply> Ask(const base::Context& ctx, int socket,
                                         const crisp::stream::Request& request);
// The reply's code and message.
absl::Status ReplyStatus(const crisp::stream::Reply& reply);

// Tells one pair of program file and settings from another: `directory` and `fingerprint` do not
// count. A replaced program differs; NOT_FOUND when there is none.
absl::StatusOr<std::string> Fingerprint(const std::string& program,
                                        const crisp::stream::Settings& settings);

}  // namespace streaming
