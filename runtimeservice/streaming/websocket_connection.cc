#include "runtimeservice/streaming/websocket_connection.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "runtimeservice/streaming/farewell.h"
#include "runtimeservice/streaming/websocket_layer.h"
// Beast after Asio's workaround in async.h.
#include <boost/asio/post.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/websocket/error.hpp>
#include <boost/beast/websocket/stream.hpp>

namespace streaming {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;

constexpr size_t kReadBytes = 64 << 10;
constexpr size_t kMaxReasonBytes = 123;  // A control frame's 125, less the code.

Task<> WriteFrom(ByteStream& stream, std::vector<std::string_view> pieces,
                 WebSocketLayer::Handler handler) {
  size_t size = 0;
  for (const std::string_view piece : pieces) {
    size += piece.size();
  }
  const absl::Status written = co_await stream.Write(pieces);
  handler(written.ok() ? Error() : Error(asio::error::broken_pipe), written.ok() ? size : 0);
}

}  // namespace

size_t WebSocketLayer::TakeBytes(std::span<char> buffer) {
  const size_t size = std::min(buffer.size(), end_ - begin_);
  std::memcpy(buffer.data(), bytes_.get() + begin_, size);
  begin_ += size;
  return size;
}

Task<> WebSocketLayer::Read(std::span<char> buffer, Handler handler) {
  if (bytes_ == nullptr) {
    bytes_ = std::make_unique_for_overwrite<char[]>(kReadBytes);
  }
  const std::span<char> target =
      buffer.size() < kReadBytes / 2 ? std::span<char>(bytes_.get(), kReadBytes) : buffer;
  const absl::StatusOr<size_t> size = co_await stream_->Read(target);
  if (!size.ok()) {
    handler(absl::IsCancelled(size.status()) ? asio::error::operation_aborted
                                             : asio::error::connection_reset,
            0);
  } else if (*size == 0) {
    handler(asio::error::eof, 0);
  } else if (target.data() == buffer.data()) {
    handler(Error(), *size);
  } else {
    begin_ = 0;
    end_ = *size;
    handler(Error(), TakeBytes(buffer));
  }
}

void WebSocketLayer::StartRead(std::span<char> buffer, Handler handler) {
  if (has_bytes()) {
    const size_t size = TakeBytes(buffer);
    asio::post(loop_, [handler = std::move(handler), size] { handler(Error(), size); });
  } else {
    Spawn(loop_, Read(buffer, std::move(handler)));
  }
}

void WebSocketLayer::StartWrite(std::vector<std::string_view> pieces, Handler handler) {
  Spawn(loop_, WriteFrom(*stream_, std::move(pieces), std::move(handler)));
}

// Shared with the coroutine that watches the time.
class WebSocketConnection::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& loop, std::unique_ptr<ByteStream> stream, Messages kind,
       const Limits& limits)
      : loop_(loop),
        text_(kind == Messages::kText),
        limits_(limits),
        stream_(loop, std::move(stream)),
        clock_(loop),
        write_turns_(loop),
        buffer_(std::make_unique_for_overwrite<char[]>(kReadBytes)) {
    stream_.set_option(websocket::stream_base::timeout{websocket::stream_base::none(),
                                                       websocket::stream_base::none(), false});
    stream_.read_message_max(0);  // Messages are read in parts.
    stream_.auto_fragment(false);
    stream_.text(text_);
  }

  Task<absl::Status> Accept(std::string_view key, std::string_view protocol);
  Task<absl::StatusOr<Part>> Read();
  Task<absl::Status> Write(std::span<const std::string_view> pieces);
  Task<> Close(WebSocketClose code, std::string_view reason);
  void Abort() {
    if (std::exchange(aborted_, true)) {
      return;
    }
    clock_.cancel();
    stream_.next_layer().stream().Close();
    if (on_closed_) {
      std::exchange(on_closed_, nullptr)();
    }
  }
  void OnClosed(std::function<void()> closed) { on_closed_ = std::move(closed); }
  size_t Unacknowledged() { return stream_.next_layer().stream().Unacknowledged(); }

 private:
  static Task<> Watch(std::shared_ptr<Impl> self);
  static Task<> Pong(std::shared_ptr<Impl> self);
  static Task<> LimitClose(std::shared_ptr<Impl> self, bool orderly);
  absl::Status ReadFailure(const Error& error) const;
  void Touch() { last_byte_ = std::chrono::steady_clock::now(); }

  asio::io_context& loop_;
  const bool text_;
  const Limits limits_;
  websocket::stream<WebSocketLayer, false> stream_;
  asio::steady_timer clock_;  // Of Watch, then of LimitClose.
  Turns write_turns_;
  const std::unique_ptr<char[]> buffer_;  // kReadBytes.
  std::chrono::steady_clock::time_point last_byte_ = {};
  bool in_message_ = false;  // A message's first part was read, its last one not.
  bool reading_ = false;     // Somebody waits in Read, so that pings are answered.
  bool has_read_ = false;    // Somebody did since Watch looked last.
  bool closing_ = false;
  bool aborted_ = false;
  bool was_idle_ = false;
  bool pong_waits_ = false;  // For a turn behind output that the client does not take.
  std::function<void()> on_closed_;
};

Task<absl::Status> WebSocketConnection::Impl::Accept(std::string_view key,
                                                     std::string_view protocol) {
  // The request was checked by http_upgrade; these are the parts Beast's answer depends on.
  http::request<http::empty_body> request(http::verb::get, "/", 11);
  request.set(http::field::host, "-");
  request.set(http::field::connection, "upgrade");
  request.set(http::field::upgrade, "websocket");
  request.set(http::field::sec_websocket_version, "13");
  request.set(http::field::sec_websocket_key, key);
  const std::string chosen(protocol);
  stream_.set_option(
      websocket::stream_base::decorator([chosen](websocket::response_type& response) {
        response.set(http::field::server, "crisp");
        if (!chosen.empty()) {
          response.set(http::field::sec_websocket_protocol, chosen);
        }
      }));
  Error error;
  co_await stream_.async_accept(request, Await(error));
  if (!error) {
    Touch();
    Spawn(loop_, Watch(shared_from_this()));
  }
  co_return ToStatus(error, "WebSocket handshake");
}

absl::Status WebSocketConnection::Impl::ReadFailure(const Error& error) const {
  if (was_idle_) {
    return absl::DeadlineExceededError("WebSocket: no byte of data within stream_idle_timeout");
  }
  if (error == websocket::condition::protocol_violation) {
    return absl::InvalidArgumentError(base::StrCat("WebSocket: ", error.message()));
  }
  return absl::CancelledError(base::StrCat("WebSocket: ", error.message()));
}

Task<absl::StatusOr<WebSocketConnection::Part>> WebSocketConnection::Impl::Read() {
  reading_ = true;
  has_read_ = true;
  Error error;
  size_t size = 0;
  // Beast gives a message's beginning apart from the rest, even if both have come.
  do {
    const asio::mutable_buffer target(buffer_.get() + size, kReadBytes - size);
    const size_t more = co_await stream_.async_read_some(target, Await(error));
    size += more;
  } while (!error && !stream_.is_message_done() && size < kReadBytes &&
           stream_.next_layer().has_bytes());
  reading_ = false;
  if (error == websocket::error::closed && !was_idle_) {
    const uint16_t code = stream_.reason().code;
    if (code == websocket::close_code::normal || code == websocket::close_code::going_away ||
        code == websocket::close_code::none) {
      co_return Part{.closed = true};
    }
  }
  if (error) {
    co_return ReadFailure(error);
  }
  if (stream_.got_text() != text_) {
    co_await Close(WebSocketClose::kUnsupported,
                   text_ ? "text messages only" : "binary messages only");
    co_return absl::InvalidArgumentError(text_ ? "WebSocket: a binary message where text is due"
                                               : "WebSocket: a text message where binary is due");
  }
  if (size > 0) {
    Touch();
  }
  Part part = {.bytes = std::string_view(buffer_.get(), size), .first = !in_message_};
  in_message_ = !stream_.is_message_done();
  part.last = !in_message_;
  co_return part;
}

Task<absl::Status> WebSocketConnection::Impl::Write(std::span<const std::string_view> pieces) {
  const Turns::Turn turn = co_await write_turns_.Take();
  if (aborted_ || closing_) {
    co_return absl::CancelledError("WebSocket write: closed");
  }
  std::vector<asio::const_buffer> buffers;
  buffers.reserve(pieces.size());
  for (const std::string_view piece : pieces) {
    buffers.emplace_back(piece.data(), piece.size());
  }
  Error error;
  co_await stream_.async_write(buffers, Await(error));
  if (error) {
    co_return absl::CancelledError(base::StrCat("WebSocket write: ", error.message()));
  }
  Touch();
  co_return absl::OkStatus();
}

Task<> WebSocketConnection::Impl::Close(WebSocketClose code, std::string_view reason) {
  if (closing_ || aborted_) {
    co_return;
  }
  closing_ = true;
  Spawn(loop_, LimitClose(shared_from_this(), code == WebSocketClose::kNormal));
  const websocket::close_reason why(static_cast<websocket::close_code>(code),
                                    beast::string_view(reason.substr(0, kMaxReasonBytes)));
  Error ignored;
  co_await stream_.async_close(why, Await(ignored));
  Abort();
}

// At an orderly end the client's answer stands behind output that it may take slowly; to close
// earlier would throw that away as soon as it sends anything.
Task<> WebSocketConnection::Impl::LimitClose(std::shared_ptr<Impl> self, bool orderly) {
  Limits limits = self->limits_;
  if (!orderly) {
    limits.idle = limits.farewell;
  }
  Farewell farewell(limits);
  while (!self->aborted_) {
    if (farewell.Left(self->stream_.next_layer().stream()) == absl::ZeroDuration()) {
      self->Abort();
      break;
    }
    self->clock_.expires_after(absl::ToChronoNanoseconds(limits.farewell / 4));
    Error error;
    co_await self->clock_.async_wait(Await(error));
  }
}

// Pongs for those whose pings are not read, and the end of those who are idle.
Task<> WebSocketConnection::Impl::Watch(std::shared_ptr<Impl> self) {
  const absl::Duration idle = self->limits_.idle;
  const bool limited = idle > absl::ZeroDuration();
  const absl::Duration step = limited ? std::min(self->limits_.pong, idle / 4) : self->limits_.pong;
  while (true) {
    self->clock_.expires_after(absl::ToChronoNanoseconds(step));
    Error error;
    co_await self->clock_.async_wait(Await(error));
    if (self->aborted_ || self->closing_) {
      co_return;
    }
    const auto silent = absl::FromChrono(std::chrono::steady_clock::now() - self->last_byte_);
    if (limited && silent >= idle) {
      self->was_idle_ = true;
      co_await self->Close(WebSocketClose::kGoingAway, "idle for too long");
      co_return;
    }
    // By itself: the idle time goes on while it waits.
    if (!self->reading_ && !self->has_read_ && !std::exchange(self->pong_waits_, true)) {
      Spawn(self->loop_, Pong(self));
    }
    self->has_read_ = false;
  }
}

// To a client that is gone it cannot be sent: the kernel answers the first with a reset, which the
// second one meets.
Task<> WebSocketConnection::Impl::Pong(std::shared_ptr<Impl> self) {
  Error error;
  const websocket::ping_data nothing;
  co_await self->stream_.async_pong(nothing, Await(error));
  self->pong_waits_ = false;
  if (error && !self->closing_) {
    self->Abort();
  }
}

WebSocketConnection::WebSocketConnection(asio::io_context& loop, std::unique_ptr<ByteStream> stream,
                                         Messages kind, const Limits& limits)
    : impl_(std::make_shared<Impl>(loop, std::move(stream), kind, limits)) {}

WebSocketConnection::~WebSocketConnection() { impl_->Abort(); }

Task<absl::Status> WebSocketConnection::Accept(std::string_view key, std::string_view protocol) {
  return impl_->Accept(key, protocol);
}
Task<absl::StatusOr<WebSocketConnection::Part>> WebSocketConnection::Read() {
  return impl_->Read();
}
Task<absl::Status> WebSocketConnection::Write(std::span<const std::string_view> pieces) {
  return impl_->Write(pieces);
}
Task<> WebSocketConnection::Close(WebSocketClose code, std::string_view reason) {
  return impl_->Close(code, reason);
}
void WebSocketConnection::Abort() { impl_->Abort(); }
size_t WebSocketConnection::Unacknowledged() { return impl_->Unacknowledged(); }
void WebSocketConnection::OnClosed(std::function<void()> closed) {
  impl_->OnClosed(std::move(closed));
}

}  // namespace streaming
