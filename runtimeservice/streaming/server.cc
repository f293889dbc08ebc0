#include "runtimeservice/streaming/server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace streaming {
namespace {

using asio::ip::tcp;

constexpr absl::Duration kTableRetry = absl::Milliseconds(100);
constexpr absl::Duration kLogPause = absl::Seconds(10);

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
      acceptor_(loop),
      visitor_left_(loop) {}

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
    // Its reads and writes end at once.
    while (visitors_.size() >= kMaxVisitors) {
      DropOldestVisitor();
      co_await visitor_left_.Wait();
    }
    Spawn(loop_, ServeOne(std::move(socket)));
  }
}

Task<> Server::ServeOne(tcp::socket socket) {
  const Activity::Hold hold = activity_.Begin();
  Error ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto visitor =
      visitors_.emplace(visitors_.end(), fcntl(socket.native_handle(), F_DUPFD_CLOEXEC, 0));
  bool admitted = false;
  const auto leave = [&] {
    visitors_.erase(visitor);
    visitor_left_.Notify();
  };
  Admit admit = [&] {
    absl::Status status = AdmitSession();
    if (status.ok()) {
      admitted = true;
      leave();
    }
    return status;
  };
  Task<> served = serve_(std::move(socket), std::move(admit));
  co_await std::move(served);
  if (admitted) {
    --sessions_;
  } else {
    leave();
  }
}

absl::Status Server::AdmitSession() {
  if (sessions_ >= config_.max_sessions) {
    LogSometimes("stream_max_sessions is reached");
    return absl::ResourceExhaustedError(
        "stream_max_sessions: this server has all it may have open");
  }
  ++sessions_;
  return absl::OkStatus();
}

void Server::DropOldestVisitor() {
  LogSometimes("too many that have not shown a URL yet: the oldest is dropped");
  // One that came while no descriptor was left has none here; its own limit ends it.
  for (const base::UniqueFd& visitor : visitors_) {
    if (visitor.valid()) {
      shutdown(visitor.get(), SHUT_RDWR);
      break;
    }
  }
}

void Server::LogSometimes(std::string_view text) {
  if (base::SteadyTime::Now() >= next_log_) {
    next_log_ = base::SteadyTime::Now() + kLogPause;
    base::LogWarning("streaming: a connection waits or is refused: ", text, " (", sessions_,
                     " are open)");
  }
}

}  // namespace streaming
