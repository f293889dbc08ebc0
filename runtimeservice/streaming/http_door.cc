#include "runtimeservice/streaming/http_door.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/log.h"
#include "base/strings.h"
#include "runtimeservice/streaming/channel_messages.h"
#include "runtimeservice/streaming/http_request.h"
#include "runtimeservice/streaming/http_upgrade.h"
#include "runtimeservice/streaming/socket_stream.h"
#include "runtimeservice/streaming/websocket_command.h"
#include "runtimeservice/streaming/websocket_connection.h"
#include "runtimeservice/streaming/websocket_forward.h"
#include "runtimeservice/streaming/websocket_tunnel.h"

namespace streaming {
namespace {

// Whatever max_header_bytes says: it bounds SPDY's header blocks, too.
constexpr size_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kReadBytes = 4096;
// A refused client may have more on its way; closing on it would lose the answer.
constexpr size_t kMaxDrainedBytes = 256 << 10;
constexpr absl::Duration kDrainLimit = absl::Seconds(2);

// Calls `expired` after `limit`, unless it is gone by then.
class Deadline {
 public:
  Deadline(asio::io_context& loop, absl::Duration limit, std::function<void()> expired)
      : timer_(loop, absl::ToChronoNanoseconds(limit)), alive_(std::make_shared<bool>(true)) {
    timer_.async_wait([alive = alive_, expired = std::move(expired)](const Error& error) {
      if (!error && *alive) {
        expired();
      }
    });
  }
  ~Deadline() { *alive_ = false; }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  asio::steady_timer timer_;
  const std::shared_ptr<bool> alive_;  // The handler may be on its way already.
};

Task<absl::Status> WriteText(ByteStream& stream, const std::string& text) {
  const std::array<std::string_view, 1> pieces = {text};
  absl::Status written = co_await stream.Write(pieces);
  co_return written;
}

Task<> Refuse(const Door& door, SocketStream& stream, const HttpAnswer& answer) {
  base::LogDebug("streaming request refused: ", answer.status, " ", answer.text);
  const Deadline deadline(door.loop, kDrainLimit, [&stream] { stream.Close(); });
  const std::string bytes = RenderAnswer(answer);
  const absl::Status written = co_await WriteText(stream, bytes);
  if (!written.ok()) {
    co_return;
  }
  co_await stream.FinishWriting();
  std::array<char, kReadBytes> buffer;
  size_t drained = 0;
  while (drained < kMaxDrainedBytes) {
    const absl::StatusOr<size_t> size = co_await stream.Read(buffer);
    if (!size.ok() || *size == 0) {
      co_return;
    }
    drained += *size;
  }
}

// The request, with the bytes behind it put back; CANCELLED when the client left.
Task<absl::StatusOr<std::variant<HttpRequest, HttpAnswer>>> ReadRequest(const Door& door,
                                                                        SocketStream& stream) {
  HttpRequestReader reader(std::min(door.limits.max_header_bytes, kMaxHeaderBytes));
  std::array<char, kReadBytes> buffer;
  bool any = false;
  while (true) {
    const absl::StatusOr<size_t> size = co_await stream.Read(buffer);
    if (!size.ok()) {
      co_return size.status();
    }
    if (*size == 0) {
      if (!any) {
        co_return absl::CancelledError("the client sent nothing");
      }
      co_return HttpAnswer{.status = 400, .text = "the request's header has no end"};
    }
    any = true;
    switch (reader.Take(std::string_view(buffer.data(), *size))) {
      case HttpRequestReader::Progress::kMore:
        break;
      case HttpRequestReader::Progress::kRefused:
        co_return reader.refusal();
      case HttpRequestReader::Progress::kDone:
        stream.Unread(reader.TakeRest());
        co_return reader.request();
    }
  }
}

HttpAnswer AnswerTo(const absl::Status& status) {
  const std::string text(base::ToStd(status.message()));
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return {.status = 404, .text = text};
    case absl::StatusCode::kInvalidArgument:
      return {.status = 400, .text = text};
    case absl::StatusCode::kResourceExhausted:
      return {.status = 503, .text = text};
    default:
      return {.status = 500, .text = text};
  }
}

// The ports of a port-forward in the older protocol, which names them in its URL.
absl::StatusOr<std::vector<uint16_t>> PortsOf(const stream::PortForwardSession& session,
                                              std::string_view protocol) {
  const size_t most = MaxForwardedPorts(protocol);
  if (session.ports().empty() || static_cast<size_t>(session.ports_size()) > most) {
    return absl::InvalidArgumentError(base::StrCat(
        "without SPDY the request for the URL names its ports: 1 to ", most, " of them"));
  }
  std::vector<uint16_t> ports;
  for (const uint32_t port : session.ports()) {
    ports.push_back(static_cast<uint16_t>(port));
  }
  return ports;
}

// Version 1 is called channel.k8s.io, 2 to 4 are vN.channel.k8s.io.
int SpdyCommandVersion(std::string_view protocol) {
  return protocol.starts_with('v') ? protocol[1] - '0' : 1;
}

Task<> RunCommand(const Door& door, const stream::Session& session, CommandClient& client) {
  if (session.has_exec()) {
    co_await door.runner.RunExec(session.exec(), client);
  } else {
    co_await door.runner.RunAttach(session.attach(), client);
  }
}

Task<> ServeSpdy(const Door& door, std::unique_ptr<SocketStream> stream, const Upgrade& upgrade,
                 const stream::Session& session) {
  const std::string head = RenderSpdyUpgrade(upgrade);
  const absl::Status written = co_await WriteText(*stream, head);
  if (!written.ok()) {
    co_return;
  }
  if (upgrade.kind == SessionKind::kPortForward) {
    const std::unique_ptr<ForwardClient> client = door.spdy_forward(std::move(stream));
    co_await door.runner.RunPortForward(session.port_forward(), *client);
  } else {
    const int version = SpdyCommandVersion(upgrade.protocol);
    const std::unique_ptr<CommandClient> client = door.spdy_command(std::move(stream), version);
    co_await RunCommand(door, session, *client);
  }
}

Task<> ServeWebSocket(const Door& door, std::unique_ptr<SocketStream> stream,
                      const Upgrade& upgrade, const stream::Session& session,
                      std::vector<uint16_t> ports) {
  auto connection = std::make_unique<WebSocketConnection>(
      door.loop, std::move(stream), MessagesOf(upgrade.protocol), door.limits);
  const absl::Status accepted =
      co_await connection->Accept(upgrade.websocket_key, upgrade.protocol);
  if (!accepted.ok()) {
    co_return;
  }
  if (upgrade.kind != SessionKind::kPortForward) {
    const std::unique_ptr<CommandClient> client =
        MakeWebSocketCommandClient(std::move(connection), upgrade.protocol);
    co_await RunCommand(door, session, *client);
  } else if (upgrade.protocol == kTunnelProtocol) {
    const std::unique_ptr<ForwardClient> client =
        door.spdy_forward(MakeWebSocketTunnel(std::move(connection)));
    co_await door.runner.RunPortForward(session.port_forward(), *client);
  } else {
    const std::unique_ptr<ForwardClient> client = MakeWebSocketForwardClient(
        door.loop, std::move(connection), upgrade.protocol, std::move(ports));
    co_await door.runner.RunPortForward(session.port_forward(), *client);
  }
}

// What came in: either is served.
struct Arrival {
  Upgrade upgrade;
  std::optional<HttpAnswer> refusal;
};

// Handshake and request, within one limit. Fails when there is nobody to answer.
Task<absl::StatusOr<Arrival>> Receive(const Door& door, SocketStream& stream) {
  bool shaken = false;
  bool late = false;
  const Deadline deadline(door.loop, door.limits.creation, [&] {
    late = true;
    if (shaken) {
      stream.StopReading();
    } else {
      stream.Close();
    }
  });
  const absl::Status handshake = co_await stream.Handshake();
  if (!handshake.ok()) {
    co_return handshake;
  }
  shaken = true;
  const absl::StatusOr<std::variant<HttpRequest, HttpAnswer>> request =
      co_await ReadRequest(door, stream);
  if (!request.ok()) {
    co_return request.status();
  }
  Arrival arrival;
  if (const HttpAnswer* refusal = std::get_if<HttpAnswer>(&*request)) {
    arrival.refusal = *refusal;
    if (late) {
      arrival.refusal = {
          .status = 408,
          .text = "the request's header did not come within stream_creation_timeout"};
    }
    co_return arrival;
  }
  std::variant<Upgrade, HttpAnswer> decided = DecideUpgrade(std::get<HttpRequest>(*request));
  if (HttpAnswer* refusal = std::get_if<HttpAnswer>(&decided)) {
    arrival.refusal = std::move(*refusal);
  } else {
    arrival.upgrade = std::get<Upgrade>(std::move(decided));
  }
  co_return arrival;
}

}  // namespace

Task<> ServeConnection(asio::ip::tcp::socket socket, const Door& door, Admit admit) {
  std::unique_ptr<SocketStream> stream =
      door.tls == nullptr ? MakeTcpStream(std::move(socket))
                          : MakeTlsStream(std::move(socket), door.tls->Current());
  absl::StatusOr<Arrival> arrival = co_await Receive(door, *stream);
  if (!arrival.ok()) {
    base::LogDebug("streaming connection without a request: ",
                   base::ToStd(arrival.status().message()));
    co_return;
  }
  const Upgrade& upgrade = arrival->upgrade;
  absl::StatusOr<stream::Session> session = absl::UnknownError("");
  std::vector<uint16_t> ports;
  if (!arrival->refusal.has_value()) {
    const absl::Status admitted = admit == nullptr ? absl::OkStatus() : admit();
    session = admitted.ok() ? door.source.Redeem(KindName(upgrade.kind), upgrade.token)
                            : absl::StatusOr<stream::Session>(admitted);
    if (!session.ok()) {
      arrival->refusal = AnswerTo(session.status());
    } else if (upgrade.websocket && upgrade.kind == SessionKind::kPortForward &&
               upgrade.protocol != kTunnelProtocol) {
      absl::StatusOr<std::vector<uint16_t>> named =
          PortsOf(session->port_forward(), upgrade.protocol);
      if (named.ok()) {
        ports = *std::move(named);
      } else {
        arrival->refusal = AnswerTo(named.status());
      }
    }
  }
  if (arrival->refusal.has_value()) {
    co_await Refuse(door, *stream, *arrival->refusal);
  } else if (upgrade.websocket) {
    co_await ServeWebSocket(door, std::move(stream), upgrade, *session, std::move(ports));
  } else {
    co_await ServeSpdy(door, std::move(stream), upgrade, *session);
  }
}

}  // namespace streaming
