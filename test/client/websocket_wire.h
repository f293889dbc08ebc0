// RFC 6455 from the client's side, and the SPDY bytes that a WebSocket may carry.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "test/client/stream_wire.h"

namespace test {

enum class Opcode : uint8_t {
  kContinuation = 0,
  kText = 1,
  kBinary = 2,
  kClose = 8,
  kPing = 9,
  kPong = 10
};

// A piece of a message.
struct WebSocketEvent {
  enum class Kind {
    kData,   // `bytes`, valid until the next call.
    kPong,   // The payload is in `bytes`.
    kClose,  // The server said goodbye with `close_code` (0: without one), and it was answered.
    kEnd,    // The connection ended without goodbye.
  };
  Kind kind = Kind::kData;
  bool begins = false;  // The first piece of a message, and the last.
  bool ends = false;
  Opcode opcode = Opcode::kBinary;
  uint16_t close_code = 0;
  std::string_view bytes;
};

// Whether frames are masked by a random key or by zeros, which costs the client nothing.
enum class Masking { kRandom, kZero };

// One thread reads; any may write. Pings are answered while reading.
class WebSocketWire {
 public:
  WebSocketWire(std::unique_ptr<Wire> wire, Masking masking);

  // A whole message in one frame: `head` and then `payload`.
  absl::Status Send(Opcode opcode, std::string_view head, std::string_view payload);
  // One frame of a message; `final` at its last.
  absl::Status SendFragment(Opcode opcode, std::string_view payload, bool final);
  absl::Status SendClose(uint16_t code);
  absl::Status SendRaw(std::string_view bytes);

  // UNAVAILABLE when the connection breaks, DATA_LOSS when the server breaks the protocol.
  absl::StatusOr<WebSocketEvent> Next(absl::Duration timeout);

  Wire& wire() { return *wire_; }

 private:
  absl::Status SendFrame(Opcode opcode, bool final, std::string_view head,
                         std::string_view payload);
  absl::Status Fill(size_t least, absl::Duration timeout);
  absl::StatusOr<WebSocketEvent> DataPiece(absl::Duration timeout);
  absl::StatusOr<WebSocketEvent> Control(Opcode opcode, std::string_view payload);

  std::unique_ptr<Wire> wire_;
  const Masking masking_;
  std::mutex writing_;
  std::string masked_;
  uint32_t key_;
  std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t frame_left_ = 0;
  bool in_frame_ = false;
  bool frame_begins_ = false;
  bool frame_final_ = false;
  Opcode message_ = Opcode::kBinary;
};

// Connects to `url` with the sub-protocol `protocol` (several: with commas between; empty: none).
// `chosen`, if not null, becomes the server's choice. Fails unless the server upgrades.
absl::StatusOr<std::unique_ptr<WebSocketWire>> ConnectWebSocket(std::string_view url,
                                                                std::string_view protocol,
                                                                const TlsFiles& tls,
                                                                Masking masking,
                                                                std::string* chosen);

// A byte stream in the binary messages of `socket`.
std::unique_ptr<Wire> TunnelWire(std::unique_ptr<WebSocketWire> socket);

}  // namespace test
