#include "test/client/websocket_wire.h"

#include <endian.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "base/status_macros.h"
#include "base/strings.h"

namespace test {
namespace {

constexpr size_t kBuffer = 512 << 10;
constexpr size_t kMostControl = 125;
// RFC 6455, section 1.3: key and accept value of its example.
constexpr char kKey[] = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr char kAccept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

class Tunnel : public Wire {
 public:
  explicit Tunnel(std::unique_ptr<WebSocketWire> socket) : socket_(std::move(socket)) {}

  absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration timeout) override {
    while (waiting_.empty()) {
      ASSIGN_OR_RETURN(const WebSocketEvent event, socket_->Next(timeout));
      if (event.kind == WebSocketEvent::Kind::kClose || event.kind == WebSocketEvent::Kind::kEnd) {
        return 0u;
      }
      if (event.kind == WebSocketEvent::Kind::kData) waiting_ = event.bytes;
    }
    const size_t count = std::min(size, waiting_.size());
    memcpy(buffer, waiting_.data(), count);
    waiting_.remove_prefix(count);
    return count;
  }
  absl::Status Write(std::string_view head, std::string_view body) override {
    return socket_->Send(Opcode::kBinary, head, body);
  }
  void FinishWriting() override { socket_->SendClose(1000).IgnoreError(); }
  void Reset() override { socket_->wire().Reset(); }

 private:
  std::unique_ptr<WebSocketWire> socket_;
  std::string_view waiting_;
};

}  // namespace

WebSocketWire::WebSocketWire(std::unique_ptr<Wire> wire, Masking masking)
    : wire_(std::move(wire)),
      masking_(masking),
      key_(masking == Masking::kZero ? 0 : std::random_device()()),
      buffer_(std::make_unique<char[]>(kBuffer)) {}

absl::Status WebSocketWire::SendFrame(Opcode opcode, bool final, std::string_view head,
                                      std::string_view payload) {
  const std::lock_guard<std::mutex> lock(writing_);
  const uint64_t size = head.size() + payload.size();
  masked_.clear();
  masked_ += static_cast<char>((final ? 0x80 : 0) | static_cast<int>(opcode));
  if (size < 126) {
    masked_ += static_cast<char>(0x80 | size);
  } else if (size <= 0xffff) {
    const uint16_t wire = htobe16(static_cast<uint16_t>(size));
    masked_ += static_cast<char>(0x80 | 126);
    masked_.append(reinterpret_cast<const char*>(&wire), sizeof(wire));
  } else {
    const uint64_t wire = htobe64(size);
    masked_ += static_cast<char>(0x80 | 127);
    masked_.append(reinterpret_cast<const char*>(&wire), sizeof(wire));
  }
  masked_.append(reinterpret_cast<const char*>(&key_), sizeof(key_));
  const size_t begin = masked_.size();
  masked_ += head;
  if (masking_ == Masking::kZero) return wire_->Write(masked_, payload);
  masked_ += payload;
  const auto* key = reinterpret_cast<const char*>(&key_);
  for (size_t i = begin; i < masked_.size(); ++i) {
    masked_[i] = static_cast<char>(masked_[i] ^ key[(i - begin) % 4]);
  }
  return wire_->Write(masked_, "");
}

absl::Status WebSocketWire::Send(Opcode opcode, std::string_view head, std::string_view payload) {
  return SendFrame(opcode, true, head, payload);
}

absl::Status WebSocketWire::SendFragment(Opcode opcode, std::string_view payload, bool final) {
  return SendFrame(opcode, final, "", payload);
}

absl::Status WebSocketWire::SendClose(uint16_t code) {
  const uint16_t wire = htobe16(code);
  return SendFrame(Opcode::kClose, true, "",
                   std::string_view(reinterpret_cast<const char*>(&wire), sizeof(wire)));
}

absl::Status WebSocketWire::SendRaw(std::string_view bytes) {
  const std::lock_guard<std::mutex> lock(writing_);
  return wire_->Write(bytes, "");
}

absl::Status WebSocketWire::Fill(size_t least, absl::Duration timeout) {
  if (end_ - begin_ >= least) return absl::OkStatus();
  memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  while (end_ < least) {
    ASSIGN_OR_RETURN(const size_t count,
                     wire_->Read(buffer_.get() + end_, kBuffer - end_, timeout));
    if (count == 0) return absl::OutOfRangeError("the end of the connection");
    end_ += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<WebSocketEvent> WebSocketWire::DataPiece(absl::Duration timeout) {
  if (frame_left_ > 0) {
    const absl::Status filled = Fill(1, timeout);
    if (absl::IsOutOfRange(filled))
      return absl::UnavailableError("the connection ended in a frame");
    RETURN_IF_ERROR(filled);
  }
  WebSocketEvent event;
  event.opcode = message_;
  event.begins = std::exchange(frame_begins_, false);
  const auto count = static_cast<size_t>(std::min<uint64_t>(frame_left_, end_ - begin_));
  event.bytes = std::string_view(buffer_.get() + begin_, count);
  begin_ += count;
  frame_left_ -= count;
  in_frame_ = frame_left_ > 0;
  event.ends = !in_frame_ && frame_final_;
  return event;
}

absl::StatusOr<WebSocketEvent> WebSocketWire::Control(Opcode opcode, std::string_view payload) {
  WebSocketEvent event;
  event.bytes = payload;
  if (opcode == Opcode::kClose) {
    event.kind = WebSocketEvent::Kind::kClose;
    if (payload.size() >= 2) {
      event.close_code = static_cast<uint16_t>((static_cast<uint8_t>(payload[0]) << 8) |
                                               static_cast<uint8_t>(payload[1]));
    }
    // The server may be gone already.
    SendFrame(Opcode::kClose, true, "", payload.substr(0, 2)).IgnoreError();
    return event;
  }
  event.kind = WebSocketEvent::Kind::kPong;
  if (opcode == Opcode::kPing) RETURN_IF_ERROR(SendFrame(Opcode::kPong, true, "", payload));
  return event;
}

absl::StatusOr<WebSocketEvent> WebSocketWire::Next(absl::Duration timeout) {
  if (in_frame_) return DataPiece(timeout);
  size_t head = 2;
  uint8_t first = 0;
  for (size_t round = 0; round < 2; ++round) {
    const absl::Status filled = Fill(head, timeout);
    if (absl::IsOutOfRange(filled)) {
      WebSocketEvent event;
      event.kind = WebSocketEvent::Kind::kEnd;
      return event;
    }
    RETURN_IF_ERROR(filled);
    first = static_cast<uint8_t>(buffer_[begin_]);
    const auto second = static_cast<uint8_t>(buffer_[begin_ + 1]);
    if ((first & 0x70) != 0 || (second & 0x80) != 0) {
      return absl::DataLossError("a frame of the server that is masked or has reserved bits");
    }
    frame_left_ = second;
    head = second == 127 ? 10 : second == 126 ? 4 : 2;
  }
  if (head > 2) {
    frame_left_ = 0;
    for (size_t i = 2; i < head; ++i) {
      frame_left_ = (frame_left_ << 8) | static_cast<uint8_t>(buffer_[begin_ + i]);
    }
  }
  begin_ += head;
  const auto opcode = static_cast<Opcode>(first & 0x0f);
  if ((first & 0x08) != 0) {
    if (frame_left_ > kMostControl) return absl::DataLossError("a long control frame");
    RETURN_IF_ERROR(Fill(frame_left_, timeout));
    const std::string_view payload(buffer_.get() + begin_, frame_left_);
    begin_ += frame_left_;
    return Control(opcode, payload);
  }
  frame_final_ = (first & 0x80) != 0;
  frame_begins_ = opcode != Opcode::kContinuation;
  if (frame_begins_) message_ = opcode;
  in_frame_ = true;
  return DataPiece(timeout);
}

absl::StatusOr<std::unique_ptr<WebSocketWire>> ConnectWebSocket(std::string_view url,
                                                                std::string_view protocol,
                                                                const TlsFiles& tls,
                                                                Masking masking,
                                                                std::string* chosen) {
  HttpHeaders headers = {{"Connection", "Upgrade"},
                         {"Upgrade", "websocket"},
                         {"Sec-WebSocket-Version", "13"},
                         {"Sec-WebSocket-Key", kKey}};
  if (!protocol.empty()) headers.emplace_back("Sec-WebSocket-Protocol", protocol);
  ASSIGN_OR_RETURN(HttpAnswer answer, SendUpgrade(url, "GET", headers, tls));
  RETURN_IF_ERROR(ExpectUpgraded(answer));
  if (answer.Header("sec-websocket-accept") != kAccept) {
    return absl::DataLossError("a wrong Sec-WebSocket-Accept");
  }
  if (chosen != nullptr) *chosen = answer.Header("sec-websocket-protocol");
  return std::make_unique<WebSocketWire>(std::move(answer.wire), masking);
}

std::unique_ptr<Wire> TunnelWire(std::unique_ptr<WebSocketWire> socket) {
  return std::make_unique<Tunnel>(std::move(socket));
}

}  // namespace test
