// What a client sends behind its WebSocket handshake, in each of the protocols.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "runtimeservice/streaming/channel_messages.h"
#include "runtimeservice/streaming/websocket_command.h"
#include "runtimeservice/streaming/websocket_connection.h"
#include "runtimeservice/streaming/websocket_forward.h"
#include "runtimeservice/streaming/websocket_tunnel.h"

namespace {

using namespace streaming;  // NOLINT: a fuzz target is one file of glue.

// The client's bytes, `step` at a time; what is written is dropped.
class MemoryStream final : public ByteStream {
 public:
  MemoryStream(std::string_view bytes, size_t step) : bytes_(bytes), step_(step) {}
  Task<absl::StatusOr<size_t>> Read(std::span<char> buffer) override {
    if (closed_) {
      co_return absl::CancelledError("closed");
    }
    const size_t size = std::min({bytes_.size(), buffer.size(), step_});
    std::memcpy(buffer.data(), bytes_.data(), size);
    bytes_.remove_prefix(size);
    co_return size;
  }
  Task<absl::Status> Write(std::span<const std::string_view>) override {
    co_return closed_ ? absl::CancelledError("closed") : absl::OkStatus();
  }
  Task<> FinishWriting() override { co_return; }
  void Close() override { closed_ = true; }

 private:
  std::string_view bytes_;
  const size_t step_;
  bool closed_ = false;
};

class EchoInput final : public CommandInput {
 public:
  explicit EchoInput(CommandClient& client) : client_(client) {}
  Task<> Stdin(std::string_view bytes) override {
    if (ended_) {
      abort();
    }
    (co_await client_.Write(OutputStream::kStdout, bytes)).IgnoreError();
  }
  void StdinEnded() override { ended_ = true; }
  void Resized(uint16_t width, uint16_t height) override {
    if (width == 0 || height == 0) {
      abort();
    }
  }

 private:
  CommandClient& client_;
  bool ended_ = false;
};

Task<> RunCommand(std::unique_ptr<WebSocketConnection> connection, std::string_view protocol,
                  bool tty) {
  const std::unique_ptr<CommandClient> client =
      MakeWebSocketCommandClient(std::move(connection), protocol);
  const CommandStreams streams = {
      .stdin_wanted = true, .stdout_wanted = true, .stderr_wanted = !tty, .tty = tty};
  (co_await client->Open(streams)).IgnoreError();
  EchoInput input(*client);
  const absl::Status ended = co_await client->ReadInput(input);
  if (ended.ok()) {
    abort();  // Nothing has called Finish.
  }
  const CommandResult result;
  co_await client->Finish(result);
}

Task<> Echo(std::shared_ptr<ForwardedConnection> connection) {
  absl::StatusOr<std::string_view> bytes = co_await connection->Read();
  while (bytes.ok() && !bytes->starts_with('q')) {
    (co_await connection->Write(*bytes)).IgnoreError();
    bytes = co_await connection->Read();
  }
  co_await connection->Fail("over");
}

Task<> RunForward(asio::io_context& loop, std::unique_ptr<WebSocketConnection> connection,
                  std::string_view protocol) {
  const std::unique_ptr<ForwardClient> client =
      MakeWebSocketForwardClient(loop, std::move(connection), protocol, {80, 443});
  (co_await client->Serve([&loop](std::shared_ptr<ForwardedConnection> opened) {
    Spawn(loop, Echo(std::move(opened)));
  })).IgnoreError();
}

Task<> RunTunnel(std::unique_ptr<WebSocketConnection> connection) {
  const std::unique_ptr<ByteStream> tunnel = MakeWebSocketTunnel(std::move(connection));
  std::array<char, 100> buffer;
  absl::StatusOr<size_t> size = co_await tunnel->Read(buffer);
  while (size.ok() && *size > 0) {
    size = co_await tunnel->Read(buffer);
  }
  co_await tunnel->FinishWriting();
}

Task<> Run(asio::io_context& loop, uint8_t choice, std::string_view bytes) {
  constexpr std::array<std::string_view, 6> kProtocols = {
      "v5.channel.k8s.io",        "v4.channel.k8s.io",     "",
      "v4.base64.channel.k8s.io", "base64.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"};
  const std::string_view protocol = kProtocols[choice % kProtocols.size()];
  const size_t step = (choice & 0x40) != 0 ? 1 : 1000;
  auto connection = std::make_unique<WebSocketConnection>(
      loop, std::make_unique<MemoryStream>(bytes, step), MessagesOf(protocol), Limits());
  const absl::Status accepted = co_await connection->Accept("dGhlIHNhbXBsZSBub25jZQ==", protocol);
  if (!accepted.ok()) {
    abort();
  }
  if (protocol == kProtocols.back()) {
    co_await RunTunnel(std::move(connection));
  } else if ((choice & 0x20) != 0) {
    co_await RunForward(loop, std::move(connection), protocol);
  } else {
    co_await RunCommand(std::move(connection), protocol, (choice & 0x80) != 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  asio::io_context loop(1);
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  Spawn(loop, Run(loop, data[0], bytes));
  // It ends by itself: the client's bytes do.
  loop.run();
  return 0;
}
