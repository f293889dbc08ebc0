#include "runtimeservice/streaming/websocket_tunnel.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace streaming {
namespace {

class WebSocketTunnel final : public ByteStream {
 public:
  explicit WebSocketTunnel(std::unique_ptr<WebSocketConnection> connection)
      : connection_(std::move(connection)) {}

  Task<absl::StatusOr<size_t>> Read(std::span<char> buffer) override {
    while (unread_.empty()) {
      const absl::StatusOr<WebSocketConnection::Part> part = co_await connection_->Read();
      if (!part.ok()) {
        co_return part.status();
      }
      if (part->closed) {
        co_return 0;
      }
      unread_ = part->bytes;
    }
    const size_t size = std::min(buffer.size(), unread_.size());
    std::memcpy(buffer.data(), unread_.data(), size);
    unread_.remove_prefix(size);
    co_return size;
  }

  Task<absl::Status> Write(std::span<const std::string_view> pieces) override {
    return connection_->Write(pieces);
  }

  Task<> FinishWriting() override { return connection_->Close(WebSocketClose::kNormal, ""); }

  size_t Unacknowledged() override { return connection_->Unacknowledged(); }

  void Close() override { connection_->Abort(); }

 private:
  std::unique_ptr<WebSocketConnection> connection_;
  std::string_view unread_;  // Of the part that was read last.
};

}  // namespace

std::unique_ptr<ByteStream> MakeWebSocketTunnel(std::unique_ptr<WebSocketConnection> connection) {
  return std::make_unique<WebSocketTunnel>(std::move(connection));
}

}  // namespace streaming
