// A ByteStream as the AsyncStream that Beast's WebSocket wants below it.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/byte_stream.h"
// Beast after Asio's workaround in async.h.
#include <boost/asio/async_result.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/beast/core/role.hpp>

namespace streaming {

class WebSocketLayer {
 public:
  using executor_type = asio::io_context::executor_type;
  using Handler = std::function<void(Error, size_t)>;

  WebSocketLayer(asio::io_context& loop, std::unique_ptr<ByteStream> stream)
      : loop_(loop), stream_(std::move(stream)) {}

  executor_type get_executor() { return loop_.get_executor(); }
  ByteStream& stream() { return *stream_; }
  // Whether the next read needs no bytes from the stream.
  bool has_bytes() const { return begin_ < end_; }

  // Asio's requirements on an AsyncReadStream and AsyncWriteStream.
  template <typename Buffers, typename Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(Error, size_t)>(
        [this, buffers](auto handler) {
          asio::mutable_buffer target;
          for (auto it = asio::buffer_sequence_begin(buffers);
               it != asio::buffer_sequence_end(buffers) && target.size() == 0; ++it) {
            target = asio::mutable_buffer(*it);
          }
          StartRead(std::span<char>(static_cast<char*>(target.data()), target.size()),
                    Shared(std::move(handler)));
        },
        token);
  }
  template <typename Buffers, typename Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return asio::async_initiate<Token, void(Error, size_t)>(
        [this, buffers](auto handler) {
          std::vector<std::string_view> pieces;
          for (auto it = asio::buffer_sequence_begin(buffers);
               it != asio::buffer_sequence_end(buffers); ++it) {
            const asio::const_buffer piece(*it);
            if (piece.size() > 0) {
              pieces.emplace_back(static_cast<const char*>(piece.data()), piece.size());
            }
          }
          StartWrite(std::move(pieces), Shared(std::move(handler)));
        },
        token);
  }

  // Writes no more, then calls `handler` with no error.
  template <typename Finished>
  void StartFinish(Finished handler) {
    auto shared = std::make_shared<Finished>(std::move(handler));
    Spawn(loop_, Finish(*stream_), [shared] { (*shared)(Error()); });
  }

 private:
  static Task<> Finish(ByteStream& stream) { co_await stream.FinishWriting(); }
  // A std::function wants to be copied, Beast's handlers cannot be.
  template <typename T>
  static Handler Shared(T handler) {
    auto shared = std::make_shared<T>(std::move(handler));
    return [shared](Error error, size_t size) { (*shared)(error, size); };
  }
  // The handlers are never called before these return.
  void StartRead(std::span<char> buffer, Handler handler);
  void StartWrite(std::vector<std::string_view> pieces, Handler handler);

  Task<> Read(std::span<char> buffer, Handler handler);
  size_t TakeBytes(std::span<char> buffer);

  asio::io_context& loop_;
  std::unique_ptr<ByteStream> stream_;
  // Beast reads a frame's head with a small buffer of its own: what it has no room for waits here.
  std::unique_ptr<char[]> bytes_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

// Beast's customization points: what is to be done with the transport after the closing handshake,
// and at once after a timeout.
template <typename Handler>
void async_teardown(boost::beast::role_type, WebSocketLayer& layer, Handler&& handler) {
  layer.StartFinish(std::forward<Handler>(handler));
}
inline void beast_close_socket(WebSocketLayer& layer) { layer.stream().Close(); }

}  // namespace streaming
