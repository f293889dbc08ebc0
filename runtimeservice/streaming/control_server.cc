#include "runtimeservice/streaming/control_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/write.hpp>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/streaming/protocol.h"

namespace streaming {
namespace {

constexpr size_t kMaxConnections = 64;  // More wait in the backlog.
constexpr size_t kReadBytes = 4 << 10;
constexpr absl::Duration kRetry = absl::Milliseconds(100);

bool IsTrusted(int socket) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         (peer.uid == 0 || peer.uid == geteuid());
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Listen(asio::io_context& loop,
                                                                     const std::string& path,
                                                                     Answer answer,
                                                                     Activity& activity) {
  std::unique_ptr<ControlServer> server(new ControlServer(loop, path, std::move(answer), activity));
  RETURN_IF_ERROR(server->Open());
  Spawn(loop, server->Accept());
  return server;
}

absl::Status ControlServer::Open() {
  if (path_.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(base::StrCat(path_, " is too long for a socket"));
  }
  Error error;
  const Protocol::endpoint endpoint(path_);
  acceptor_.open(endpoint.protocol(), error);
  if (!error) {
    acceptor_.bind(endpoint, error);
  }
  if (!error) {
    acceptor_.listen(asio::socket_base::max_listen_connections, error);
  }
  return ToStatus(error, path_);
}

void ControlServer::Close() {
  if (acceptor_.is_open()) {
    unlink(path_.c_str());
    Error ignored;
    acceptor_.close(ignored);
  }
}

Task<> ControlServer::Accept() {
  while (acceptor_.is_open()) {
    while (connections_ >= kMaxConnections) {
      co_await freed_.Wait();
    }
    Error error;
    Protocol::socket socket(loop_);
    co_await acceptor_.async_accept(socket, Await(error));
    if (error && acceptor_.is_open()) {
      base::LogWarning("streaming: control socket: ", error.message());
      asio::steady_timer pause(loop_, absl::ToChronoNanoseconds(kRetry));
      co_await pause.async_wait(Await(error));
      continue;
    }
    if (!error && IsTrusted(socket.native_handle())) {
      ++connections_;
      Spawn(loop_, Serve(std::move(socket)));
    }
  }
}

Task<> ControlServer::Serve(Protocol::socket socket) {
  FrameReader frames;
  Error error;
  while (!error) {
    absl::StatusOr<std::optional<std::string>> frame = frames.Next();
    crisp::stream::Request request;
    if (!frame.ok() || (frame->has_value() && !request.ParseFromString(**frame))) {
      base::LogWarning("streaming: control socket: a request that makes no sense");
      break;
    }
    if (!frame->has_value()) {
      std::string bytes(kReadBytes, '\0');
      const auto buffer = asio::buffer(bytes);
      const size_t count = co_await socket.async_read_some(buffer, Await(error));
      frames.Append(std::string_view(bytes).substr(0, count));
      continue;
    }
    // Until it is answered the process does not end.
    const Activity::Hold hold = activity_.Begin();
    const absl::StatusOr<std::string> reply = EncodeFrame(answer_(std::move(request)));
    if (!reply.ok()) {
      break;
    }
    const auto buffer = asio::buffer(*reply);
    co_await asio::async_write(socket, buffer, Await(error));
  }
  --connections_;
  freed_.Notify();
}

}  // namespace streaming
