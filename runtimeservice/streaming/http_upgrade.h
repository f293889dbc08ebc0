// What a request asks for, and in which protocol it will be served: streaming.md, sections 1, 2, 6.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "runtimeservice/streaming/http_request.h"

namespace streaming {

// The WebSocket sub-protocol that carries SPDY.
inline constexpr std::string_view kTunnelProtocol = "SPDY/3.1+portforward.k8s.io";

enum class SessionKind { kExec, kAttach, kPortForward };

struct Upgrade {
  SessionKind kind = SessionKind::kExec;
  std::string token;
  bool websocket = false;
  // The first of the client's list that is known here; empty: a WebSocket without sub-protocol.
  std::string protocol;
  std::string websocket_key;
};

// "exec", "attach" or "portforward": the first component of the path.
std::string_view KindName(SessionKind kind);

// Everything of `request` but whether its token is good; or how it is refused (400, 403, 404, 405,
// 426).
std::variant<Upgrade, HttpAnswer> DecideUpgrade(const HttpRequest& request);

// The answer that ends HTTP on a connection that goes on with SPDY.
std::string RenderSpdyUpgrade(const Upgrade& upgrade);

}  // namespace streaming
