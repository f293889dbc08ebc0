#include "runtimeservice/streaming/websocket_forward.h"

#include <array>
#include <string>
#include <utility>

#include "base/strings.h"
#include "runtimeservice/streaming/channel_messages.h"

namespace streaming {
namespace {

// What of one connection waits for its target; then the client is not read on.
constexpr size_t kMaxWaitingBytes = 256 << 10;

// What the connections share with their client, and may outlive it with.
struct Shared {
  Shared(asio::io_context& io, std::unique_ptr<WebSocketConnection> connection,
         std::string_view protocol)
      : loop(io), messages(std::move(connection), MessagesOf(protocol)) {}

  asio::io_context& loop;
  ChannelMessages messages;
  size_t open_connections = 0;
  bool ended = false;
};

Task<> SayGoodbye(std::shared_ptr<Shared> shared) {
  co_await shared->messages.connection().Close(WebSocketClose::kNormal, "");
}

class ChannelConnection final : public ForwardedConnection {
 public:
  ChannelConnection(std::shared_ptr<Shared> shared, uint8_t channel, uint16_t port)
      : shared_(std::move(shared)), channel_(channel), port_(port), changed_(shared_->loop) {}
  ~ChannelConnection() override { Finish(); }

  uint16_t port() const override { return port_; }
  bool cancelled() const override { return shared_->ended || finished_; }

  Task<absl::StatusOr<std::string_view>> Read() override {
    taken_.clear();
    while (waiting_.empty() && !shared_->ended && !finished_) {
      co_await changed_.Wait();
    }
    if (waiting_.empty()) {
      co_return absl::CancelledError("the client of the port-forward has left");
    }
    std::swap(taken_, waiting_);
    changed_.Notify();
    co_return taken_;
  }

  Task<absl::Status> Write(std::string_view bytes) override {
    if (shared_->ended || finished_) {
      co_return absl::CancelledError("the client of the port-forward has left");
    }
    if (bytes.empty()) {
      co_return absl::OkStatus();
    }
    absl::Status written = co_await shared_->messages.Write(channel_, bytes);
    co_return written;
  }

  // There is no half-close in this protocol: the connection is over.
  Task<> FinishWriting() override {
    Finish();
    co_return;
  }

  Task<> Fail(std::string_view text) override {
    if (!shared_->ended && !finished_) {
      const auto channel = static_cast<uint8_t>(channel_ + 1);
      (co_await shared_->messages.Write(channel, text)).IgnoreError();
      Finish();
    }
  }

  // Called by the reader of the client: returns when there is room for more.
  Task<> Deliver(std::string_view bytes) {
    while (waiting_.size() >= kMaxWaitingBytes && !finished_ && !shared_->ended) {
      co_await changed_.Wait();
    }
    if (!finished_) {
      waiting_ += bytes;
      changed_.Notify();
    }
  }

  void Wake() { changed_.Notify(); }

 private:
  void Finish() {
    if (std::exchange(finished_, true)) {
      return;
    }
    changed_.Notify();
    if (--shared_->open_connections == 0 && !shared_->ended) {
      Spawn(shared_->loop, SayGoodbye(shared_));
    }
  }

  const std::shared_ptr<Shared> shared_;
  const uint8_t channel_;
  const uint16_t port_;
  Signal changed_;  // `waiting_`, `finished_` or the client's end.
  std::string waiting_;
  std::string taken_;  // What Read returned last.
  bool finished_ = false;
};

class WebSocketForwardClient final : public ForwardClient {
 public:
  WebSocketForwardClient(std::shared_ptr<Shared> shared, std::vector<uint16_t> ports)
      : shared_(std::move(shared)), ports_(std::move(ports)) {}
  ~WebSocketForwardClient() override { Abort(); }

  Task<absl::Status> Serve(OnConnection opened) override {
    // Also while a target takes nothing, so that the client is not read.
    shared_->messages.connection().OnClosed([this] { End(); });
    absl::Status status = co_await Announce();
    if (status.ok()) {
      shared_->open_connections = ports_.size();
      for (size_t i = 0; i < ports_.size(); ++i) {
        const auto connection =
            std::make_shared<ChannelConnection>(shared_, static_cast<uint8_t>(2 * i), ports_[i]);
        connections_.push_back(connection);
        opened(connection);
      }
      status = co_await Deliver();
    }
    if (!absl::IsCancelled(status)) {
      co_await shared_->messages.connection().Close(WebSocketClose::kBadData,
                                                    base::ToStd(status.message()));
    }
    const bool all_over = shared_->open_connections == 0 && !connections_.empty();
    shared_->messages.connection().OnClosed(nullptr);
    End();
    co_return all_over ? absl::OkStatus() : status;
  }

  void Abort() override {
    shared_->messages.connection().Abort();
    End();
  }

 private:
  // The port of each channel, as the first message on it.
  Task<absl::Status> Announce() {
    for (size_t i = 0; i < ports_.size(); ++i) {
      const std::array<char, 2> port = {static_cast<char>(ports_[i] & 0xff),
                                        static_cast<char>(ports_[i] >> 8)};
      for (size_t channel = 2 * i; channel < 2 * i + 2; ++channel) {
        absl::Status written = co_await shared_->messages.Write(
            static_cast<uint8_t>(channel), std::string_view(port.data(), port.size()));
        if (!written.ok()) {
          co_return written;
        }
      }
    }
    co_return absl::OkStatus();
  }

  Task<absl::Status> Deliver() {
    while (true) {
      const absl::StatusOr<ChannelMessages::Data> data = co_await shared_->messages.Read();
      if (!data.ok()) {
        co_return data.status();
      }
      const size_t index = data->channel / 2;
      if (data->channel % 2 != 0 || index >= connections_.size() || data->bytes.empty()) {
        continue;  // The error channels are ours alone.
      }
      const std::shared_ptr<ChannelConnection> connection = connections_[index].lock();
      if (connection != nullptr) {
        co_await connection->Deliver(data->bytes);
      }
    }
  }

  void End() {
    shared_->ended = true;
    for (const std::weak_ptr<ChannelConnection>& weak : connections_) {
      if (const std::shared_ptr<ChannelConnection> connection = weak.lock()) {
        connection->Wake();
      }
    }
  }

  const std::shared_ptr<Shared> shared_;
  const std::vector<uint16_t> ports_;
  std::vector<std::weak_ptr<ChannelConnection>> connections_;
};

}  // namespace

size_t MaxForwardedPorts(std::string_view protocol) {
  return MessagesOf(protocol) == WebSocketConnection::Messages::kText ? 5 : 128;
}

std::unique_ptr<ForwardClient> MakeWebSocketForwardClient(
    asio::io_context& loop, std::unique_ptr<WebSocketConnection> connection,
    std::string_view protocol, std::vector<uint16_t> ports) {
  auto shared = std::make_shared<Shared>(loop, std::move(connection), protocol);
  return std::make_unique<WebSocketForwardClient>(std::move(shared), std::move(ports));
}

}  // namespace streaming
