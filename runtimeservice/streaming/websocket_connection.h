// One client's WebSocket (RFC 6455) as its messages, by Boost.Beast over any ByteStream.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/byte_stream.h"
#include "runtimeservice/streaming/limits.h"

namespace streaming {

// Codes of a close frame (RFC 6455 section 7.4.1).
enum class WebSocketClose : uint16_t {
  kNormal = 1000,
  kGoingAway = 1001,
  kUnsupported = 1003,
  kBadData = 1007
};

// One coroutine reads; any number write. Pings are answered while Read waits; when nobody reads
// (the program does not take its input) pongs are sent without being asked for (section 5.5.3). A
// connection without a data byte for Limits::idle is closed. Drops the connection when it goes;
// must not go while a coroutine is in one of its functions.
class WebSocketConnection {
 public:
  enum class Messages { kBinary, kText };

  // `stream` stands behind the request's header. `kind` is that of all messages, in and out.
  WebSocketConnection(asio::io_context& loop, std::unique_ptr<ByteStream> stream, Messages kind,
                      const Limits& limits);
  ~WebSocketConnection();

  // Answers the request of `key` (Sec-WebSocket-Key) with 101, and with `protocol` unless it is
  // empty. Once, before anything else.
  Task<absl::Status> Accept(std::string_view key, std::string_view protocol);

  // A piece of a message: a long message is never kept whole.
  struct Part {
    std::string_view bytes;  // Valid until the next Read. May be empty.
    bool first = false;
    bool last = false;
    bool closed = false;  // The client has said goodbye; there is nothing else here.
  };
  // CANCELLED when the client is gone or Abort was called, DEADLINE_EXCEEDED when the connection
  // was idle, INVALID_ARGUMENT when the client broke the protocol: it was sent the close then.
  Task<absl::StatusOr<Part>> Read();

  // One message of all pieces. Returns when it is on its way; the bytes must stay until then.
  Task<absl::Status> Write(std::span<const std::string_view> pieces);

  // Sends the close, with as much of `reason` as fits (123 bytes), and waits for the client's; then
  // the connection is gone. It waits for Limits::farewell, and behind kNormal also as long as the
  // client takes output. Repeats wait for nothing.
  Task<> Close(WebSocketClose code, std::string_view reason);

  // Whoever waits gets CANCELLED. Repeats do nothing.
  void Abort();
  // Called once, when the connection is gone, which is noticed although nobody reads: a pong that
  // cannot be sent says so.
  void OnClosed(std::function<void()> closed);
  // As ByteStream says.
  size_t Unacknowledged();

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace streaming
