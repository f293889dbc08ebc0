// The bytes of one client's connection once HTTP is done with: plain TCP, TLS, or the binary
// messages of a WebSocket that carries SPDY.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtimeservice/streaming/async.h"

namespace streaming {

// One coroutine reads and one writes at a time. Closes when it goes.
class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // At least one byte, as many as are there; 0 at the client's orderly end.
  virtual Task<absl::StatusOr<size_t>> Read(std::span<char> buffer) = 0;
  // All pieces, one behind the other, gathered into as few system calls as possible. The bytes must
  // stay until it returns.
  virtual Task<absl::Status> Write(std::span<const std::string_view> pieces) = 0;
  // No more will be written; reading goes on (TLS: close_notify; WebSocket: close 1000).
  virtual Task<> FinishWriting() = 0;
  // Bytes written that have not reached the client yet, as far as the kernel knows.
  virtual size_t Unacknowledged() { return 0; }
  // At once and for both directions; whoever waits in Read or Write gets CANCELLED. Repeats do
  // nothing.
  virtual void Close() = 0;
};

}  // namespace streaming
