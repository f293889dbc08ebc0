#include "runtimeservice/streaming/forward_session.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/streaming/flow_buffer.h"
#include "runtimeservice/streaming/namespace_sockets.h"

namespace streaming {
namespace {

// How often it is looked whether a connection whose target takes nothing is still wanted.
constexpr absl::Duration kLookAgain = absl::Seconds(1);

// Begins to connect; whether that is under way or done.
bool BeginConnect(int fd, bool ipv6, uint16_t port) {
  sockaddr_in6 six = {};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(port);
  six.sin6_addr = in6addr_loopback;
  sockaddr_in four = {};
  four.sin_family = AF_INET;
  four.sin_port = htons(port);
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int result = ipv6 ? connect(fd, reinterpret_cast<const sockaddr*>(&six), sizeof(six))
                          : connect(fd, reinterpret_cast<const sockaddr*>(&four), sizeof(four));
  return result == 0 || errno == EINPROGRESS || errno == EINTR;
}

std::string Lower(int error) {
  std::string text = std::strerror(error);
  text[0] = static_cast<char>(text[0] | 0x20);
  return text;
}

}  // namespace

struct ForwardSession::Pair {
  Pair(asio::io_context& loop, std::shared_ptr<ForwardedConnection> of)
      : connection(std::move(of)), target(loop) {}

  void Close() {
    Error ignored;
    target.close(ignored);
  }

  // Also throws away what the kernel keeps for a target that does not take it.
  void Discard() {
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(target.native_handle(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    Close();
  }

  const std::shared_ptr<ForwardedConnection> connection;
  Descriptor target;
  bool stuck = false;  // It waits for the target to take something.
};

ForwardSession::ForwardSession(asio::io_context& loop, const stream::PortForwardSession& session,
                               ForwardClient& client, absl::Duration connect_limit)
    : loop_(loop),
      session_(session),
      client_(client),
      connect_limit_(connect_limit),
      makers_(loop),
      tasks_(loop) {}

Task<> ForwardSession::Run() {
  const ForwardClient::OnConnection opened =
      [this](std::shared_ptr<ForwardedConnection> connection) {
        tasks_.Spawn(Forward(std::move(connection)));
      };
  const absl::Status ended = co_await client_.Serve(opened);
  if (!ended.ok()) {
    base::LogDebug("port-forward to pod ", session_.pod_id(),
                   ": client: ", base::ToStd(ended.message()));
  }
  client_.Abort();
  ended_ = true;
  for (Pair* pair : pairs_) {
    if (pair->stuck) {
      pair->Discard();
    }
    pair->Close();
  }
  co_await tasks_.Join();
}

Task<> ForwardSession::Forward(std::shared_ptr<ForwardedConnection> connection) {
  const auto pair = std::make_shared<Pair>(loop_, std::move(connection));
  pairs_.insert(pair.get());
  const absl::Status connected = co_await Connect(*pair);
  if (connected.ok()) {
    TaskGroup copies(loop_);
    copies.Spawn(CopyToTarget(pair));
    copies.Spawn(CopyToClient(pair));
    co_await copies.Join();
  } else if (!ended_) {
    const std::string text =
        base::StrCat("port ", pair->connection->port(), ": ", base::ToStd(connected.message()),
                     " in pod ", session_.pod_id());
    co_await pair->connection->Fail(text);
  }
  pairs_.erase(pair.get());
}

Task<absl::Status> ForwardSession::Connect(Pair& pair) {
  // The host's network outlives a pod that used it; the right to its ports does not.
  if (!session_.pod_folder().empty() && !base::Exists(session_.pod_folder())) {
    co_return absl::FailedPreconditionError("nothing runs any more");
  }
  absl::StatusOr<LoopbackSockets> sockets = absl::CancelledError("closed");
  {
    // One thread at a time: a client may ask for many connections at once.
    const Turns::Turn turn = co_await makers_.Take();
    sockets = co_await MakeLoopbackSockets(loop_, session_.network_namespace());
  }
  if (!sockets.ok()) {
    co_return sockets.status();
  }
  const bool has_ipv4 = sockets->ipv4.valid();
  absl::Status connected = absl::UnavailableError("no address family");
  for (const bool ipv6 : {false, true}) {
    base::UniqueFd& fd = ipv6 ? sockets->ipv6 : sockets->ipv4;
    if (ended_ || !fd.valid()) {
      continue;
    }
    pair.target = Adopt(loop_, std::move(fd));
    const absl::Status status = co_await ConnectBy(pair.target, ipv6, pair.connection->port());
    if (status.ok() || absl::IsDeadlineExceeded(status)) {
      co_return status;
    }
    // What IPv4 says counts: that is where most listen.
    connected = ipv6 && has_ipv4 ? connected : status;
  }
  co_return connected;
}

Task<absl::Status> ForwardSession::ConnectBy(Descriptor& socket, bool ipv6, uint16_t port) {
  if (!BeginConnect(socket.native_handle(), ipv6, port)) {
    co_return absl::UnavailableError(Lower(errno));
  }
  const std::optional<bool> writable = co_await WritableWithin(socket, connect_limit_);
  if (!writable.has_value()) {
    co_return absl::DeadlineExceededError(
        base::StrCat("no answer within ", absl::FormatDuration(connect_limit_)));
  }
  if (!*writable) {
    co_return absl::CancelledError("closed");
  }
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(socket.native_handle(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    co_return absl::UnavailableError(Lower(error));
  }
  const int at_once = 1;
  setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof(at_once));
  co_return absl::OkStatus();
}

// A target that takes nothing is not waited for when its client has given the connection up.
Task<bool> ForwardSession::WriteToTarget(Pair& pair, std::string_view bytes) {
  while (!bytes.empty()) {
    const absl::StatusOr<size_t> written = WriteNow(pair.target, bytes);
    if (!written.ok()) {
      co_return false;
    }
    bytes.remove_prefix(*written);
    if (*written == 0) {
      pair.stuck = true;
      co_await WritableWithin(pair.target, kLookAgain);
      pair.stuck = false;
      if (pair.connection->cancelled()) {
        pair.Discard();
        co_return false;
      }
    }
  }
  co_return true;
}

Task<> ForwardSession::CopyToTarget(std::shared_ptr<Pair> pair) {
  bool half_closed = false;
  bool takes = true;  // Else what comes is dropped: the client's other connections go on.
  while (true) {
    const absl::StatusOr<std::string_view> bytes = co_await pair->connection->Read();
    if (!bytes.ok()) {
      pair->Close();
      break;
    }
    if (bytes->empty() && half_closed) {
      break;
    }
    if (bytes->empty()) {
      // Read on: the client may still give the connection up.
      half_closed = true;
      if (pair->target.is_open()) {
        shutdown(pair->target.native_handle(), SHUT_WR);
      }
      continue;
    }
    if (takes) {
      takes = co_await WriteToTarget(*pair, *bytes);
    }
  }
}

Task<> ForwardSession::CopyToClient(std::shared_ptr<Pair> pair) {
  FlowBuffer buffer;
  while (true) {
    const std::span<char> space = buffer.Get();
    const std::optional<size_t> length = ReadNow(pair->target, space);
    if (!length.has_value()) {
      buffer.Release();
      co_await Readable(pair->target);
      continue;
    }
    if (*length == 0) {
      break;
    }
    buffer.Filled(*length);
    const absl::Status sent =
        co_await pair->connection->Write(std::string_view(space.data(), *length));
    if (!sent.ok()) {
      pair->Close();
      co_return;
    }
  }
  co_await pair->connection->FinishWriting();
}

}  // namespace streaming
