// The messages of the WebSocket protocols with channels: the first byte (in base64 forms the first
// character, '0' and up) names the channel, the rest is data.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/websocket_connection.h"

namespace streaming {

// Whether messages of sub-protocol `protocol` are base64 text rather than binary.
WebSocketConnection::Messages MessagesOf(std::string_view protocol);

// Reads and writes a connection's messages, in parts as they come. One coroutine reads.
class ChannelMessages {
 public:
  ChannelMessages(std::unique_ptr<WebSocketConnection> connection,
                  WebSocketConnection::Messages kind)
      : connection_(std::move(connection)), base64_(kind == WebSocketConnection::Messages::kText) {}

  struct Data {
    uint8_t channel = 0;
    bool first = false;      // Of its message.
    std::string_view bytes;  // Valid until the next Read; may be empty only when `first`.
  };
  // The next data; CANCELLED when the client has left, with or without a goodbye; else as
  // WebSocketConnection::Read.
  Task<absl::StatusOr<Data>> Read();

  // `bytes` in as many messages as they need; empty: one without data.
  Task<absl::Status> Write(uint8_t channel, std::string_view bytes);

  WebSocketConnection& connection() { return *connection_; }

 private:
  absl::StatusOr<std::string_view> Decode(std::string_view text, bool last);

  std::unique_ptr<WebSocketConnection> connection_;
  const bool base64_;
  std::optional<uint8_t> channel_;  // Of the message that is being read.
  std::string undecoded_;           // Fewer than four characters of base64.
  bool padded_ = false;             // Base64's end was seen.
  std::string decoded_;
};

}  // namespace streaming
