// A WebSocket client that sends and reads raw frames, right or wrong.
#pragma once

#include <string>
#include <string_view>

#include "base/strings.h"
#include "runtimeservice/streaming/test_door.h"

namespace streaming {

// A client's frame with the mask of the vectors; `first` is FIN and opcode.
inline std::string MaskedFrame(uint8_t first, std::string_view payload) {
  std::string frame(1, static_cast<char>(first));
  const size_t size = payload.size();
  if (size < 126) {
    frame += static_cast<char>(0x80 | size);
  } else if (size < 65536) {
    frame += {static_cast<char>(0xfe), static_cast<char>(size >> 8), static_cast<char>(size)};
  } else {
    frame += static_cast<char>(0xff);
    for (int shift = 56; shift >= 0; shift -= 8) {
      frame += static_cast<char>(size >> shift);
    }
  }
  constexpr std::string_view kMask = "\x37\xfa\x21\x3d";
  frame += kMask;
  for (size_t i = 0; i < size; ++i) {
    frame += static_cast<char>(payload[i] ^ kMask[i % 4]);
  }
  return frame;
}
inline std::string Binary(std::string_view payload) { return MaskedFrame(0x82, payload); }

class WebSocketTestClient : public TestClient {
 public:
  using TestClient::TestClient;

  // Returns the answer's header.
  std::string Upgrade(std::string_view target, std::string_view protocols) {
    Send(UpgradeRequest(target, protocols));
    return ReceiveHead();
  }
  static std::string UpgradeRequest(std::string_view target, std::string_view protocols) {
    return base::StrCat("GET ", target,
                        " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        "Sec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                        protocols.empty() ? "" : "Sec-WebSocket-Protocol: ", protocols,
                        protocols.empty() ? "" : "\r\n", "\r\n");
  }

  struct Frame {
    uint8_t first = 0;  // FIN and opcode; 0: the connection has ended.
    std::string payload;
    bool operator==(const Frame&) const = default;
    friend std::ostream& operator<<(std::ostream& out, const Frame& frame) {
      return out << std::hex << int{frame.first} << " \"" << frame.payload << "\"";
    }
  };
  Frame ReceiveFrame() {
    const std::string head = Receive(2);
    if (head.size() < 2) {
      return {};
    }
    size_t size = static_cast<uint8_t>(head[1]);  // A mask bit would show as a length.
    if (size == 126 || size == 127) {
      const std::string length = Receive(size == 126 ? 2 : 8);
      size = 0;
      for (const char c : length) {
        size = size << 8 | static_cast<uint8_t>(c);
      }
    }
    return {.first = static_cast<uint8_t>(head[0]), .payload = Receive(size)};
  }
};

}  // namespace streaming
