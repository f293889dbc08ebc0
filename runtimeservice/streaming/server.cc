#include "runtimeservice/streaming/server.h"

#include <boost/asio/write.hpp>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace streaming {
namespace {

using asio::ip::tcp;

constexpr absl::Duration kTableRetry = absl::Milliseconds(100);
constexpr absl::Duration kLogPause = absl::Seconds(10);
constexpr absl::Duration kRefusalTime = absl::Seconds(2);
constexpr size_t kMaxRefusals = 32;  // At once; others are dropped without a word.

constexpr std::string_view kRefusal =
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
    "stream_max_sessions: this server has all it may have open\n";

// What passes by itself: a full table of descriptors or too little memory.
bool IsShortage(const Error& error) {
  namespace errc = boost::system::errc;
  return error == errc::too_many_files_open || error == errc::too_many_files_open_in_system ||
         error == errc::no_buffer_space || error == errc::not_enough_memory;
}

absl::Status SettingError(std::string_view setting, const Error& error) {
  return absl::FailedPreconditionError(base::StrCat("crisp.api.", setting, ": ", error.message()));
}

}  // namespace

Server::Server(asio::io_context& loop, const ServerConfig& config, Serve serve, Activity& activity)
    : loop_(loop),
      config_(config),
      serve_(std::move(serve)),
      activity_(activity),
      acceptor_(loop) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(asio::io_context& loop,
                                                       const ServerConfig& config, Serve serve,
                                                       Activity& activity) {
  std::unique_ptr<Server> server(new Server(loop, config, std::move(serve), activity));
  RETURN_IF_ERROR(server->Open());
  Spawn(loop, server->Accept());
  return server;
}

absl::Status Server::Open() {
  Error error;
  const asio::ip::address address = asio::ip::make_address(config_.address, error);
  const std::string shown = base::StrCat("stream_address \"", config_.address, "\"");
  if (error) {
    return SettingError(shown, error);
  }
  const tcp::endpoint endpoint(address, config_.port);
  acceptor_.open(endpoint.protocol(), error);
  if (!error) {
    // Connections of a server that gave this port up may still be open.
    acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  }
  if (!error) {
    acceptor_.bind(endpoint, error);
  }
  if (!error) {
    acceptor_.listen(asio::socket_base::max_listen_connections, error);
  }
  if (error) {
    const bool is_port =
        error == asio::error::address_in_use || error == asio::error::access_denied;
    return SettingError(
        is_port ? base::StrCat("stream_port ", config_.port, " on ", config_.address) : shown,
        error);
  }
  port_ = acceptor_.local_endpoint(error).port();
  return absl::OkStatus();
}

std::string Server::Url(std::string_view path) const {
  Error error;
  asio::ip::address address = asio::ip::make_address(config_.address, error);
  if (address.is_unspecified()) {
    address = address.is_v6() ? asio::ip::address(asio::ip::address_v6::loopback())
                              : asio::ip::address(asio::ip::address_v4::loopback());
  }
  const std::string host =
      address.is_v6() ? base::StrCat("[", address.to_string(), "]") : address.to_string();
  return base::StrCat(config_.tls ? "https://" : "http://", host, ":", port_, path);
}

void Server::Close() {
  Error ignored;
  acceptor_.close(ignored);
}

Task<> Server::Accept() {
  while (acceptor_.is_open()) {
    Error error;
    tcp::socket socket(loop_);
    co_await acceptor_.async_accept(socket, Await(error));
    if (!acceptor_.is_open()) {
      break;
    }
    if (IsShortage(error)) {
      LogSometimes(error.message());
      asio::steady_timer pause(loop_, absl::ToChronoNanoseconds(kTableRetry));
      co_await pause.async_wait(Await(error));
      continue;
    }
    if (error) {
      continue;  // The client left before it was taken.
    }
    if (sessions_ < config_.max_sessions) {
      Spawn(loop_, ServeOne(std::move(socket)));
    } else {
      LogSometimes("stream_max_sessions is reached");
      if (refusals_ < kMaxRefusals && !config_.tls) {
        Spawn(loop_, Refuse(std::move(socket)));
      }
    }
  }
}

Task<> Server::ServeOne(tcp::socket socket) {
  const Activity::Hold hold = activity_.Begin();
  ++sessions_;
  Error ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  co_await serve_(std::move(socket));
  --sessions_;
}

Task<> Server::Refuse(tcp::socket socket) {
  ++refusals_;
  Error error;
  asio::steady_timer limit(loop_, absl::ToChronoNanoseconds(kRefusalTime));
  const auto shared = std::make_shared<tcp::socket>(std::move(socket));
  limit.async_wait([shared](const Error& stopped) {
    Error ignored;
    if (!stopped) {
      shared->close(ignored);
    }
  });
  const asio::const_buffer text(kRefusal.data(), kRefusal.size());
  co_await asio::async_write(*shared, text, Await(error));
  shared->shutdown(tcp::socket::shutdown_send, error);
  // Its request must be read, else the kernel answers with a reset that overtakes our words.
  char bytes[1024];
  error = Error();
  while (!error) {
    co_await shared->async_read_some(asio::buffer(bytes), Await(error));
  }
  limit.cancel();
  --refusals_;
}

void Server::LogSometimes(std::string_view text) {
  if (base::SteadyTime::Now() >= next_log_) {
    next_log_ = base::SteadyTime::Now() + kLogPause;
    base::LogWarning("streaming: a connection waits or is refused: ", text, " (", sessions_,
                     " are open)");
  }
}

}  // namespace streaming
