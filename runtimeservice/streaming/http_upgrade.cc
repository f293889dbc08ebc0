#include "runtimeservice/streaming/http_upgrade.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "base/strings.h"

namespace streaming {
namespace {

using Protocols = std::span<const std::string_view>;

constexpr char kSpdy[] = "SPDY/3.1";
constexpr size_t kMaxTokenBytes = 128;

constexpr std::array<std::string_view, 4> kSpdyCommand = {"v4.channel.k8s.io", "v3.channel.k8s.io",
                                                          "v2.channel.k8s.io", "channel.k8s.io"};
constexpr std::array<std::string_view, 1> kSpdyForward = {"portforward.k8s.io"};
constexpr std::array<std::string_view, 5> kWebSocketCommand = {
    "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io",
    "base64.channel.k8s.io"};
constexpr std::array<std::string_view, 3> kWebSocketForward = {kTunnelProtocol, "v4.channel.k8s.io",
                                                               "v4.base64.channel.k8s.io"};

Protocols KnownProtocols(SessionKind kind, bool websocket) {
  if (kind == SessionKind::kPortForward) {
    return websocket ? Protocols(kWebSocketForward) : Protocols(kSpdyForward);
  }
  return websocket ? Protocols(kWebSocketCommand) : Protocols(kSpdyCommand);
}

// What comes behind scheme and authority, which only a proxy's clients send (RFC 9112 section 3.2).
std::string_view OriginForm(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (absl::StartsWithIgnoreCase(base::ToAbsl(target), base::ToAbsl(scheme))) {
      return target.substr(std::min(target.size(), target.find('/', scheme.size())));
    }
  }
  return target;
}

// "/KIND/TOKEN", with or without a query.
std::optional<Upgrade> ParseTarget(std::string_view target) {
  target = OriginForm(target);
  const std::string_view path = target.substr(0, target.find('?'));
  for (const SessionKind kind :
       {SessionKind::kExec, SessionKind::kAttach, SessionKind::kPortForward}) {
    const std::string prefix = base::StrCat("/", KindName(kind), "/");
    if (!path.starts_with(prefix)) {
      continue;
    }
    const std::string_view token = path.substr(prefix.size());
    const bool well_formed = std::all_of(token.begin(), token.end(), [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
    });
    if (!token.empty() && token.size() <= kMaxTokenBytes && well_formed) {
      return Upgrade{.kind = kind, .token = std::string(token)};
    }
  }
  return std::nullopt;
}

HttpAnswer Bad(std::string text) { return {.status = 400, .text = std::move(text)}; }

// Chooses by the client's order. Fails when nothing of `offered` is known.
std::optional<HttpAnswer> ChooseProtocol(const std::vector<std::string>& offered,
                                         Upgrade* upgrade) {
  const Protocols known = KnownProtocols(upgrade->kind, upgrade->websocket);
  for (const std::string& protocol : offered) {
    if (std::find(known.begin(), known.end(), protocol) != known.end()) {
      upgrade->protocol = protocol;
      return std::nullopt;
    }
  }
  HttpAnswer answer = {.status = 403, .text = "none of the protocols offered is known here"};
  for (const std::string_view protocol : known) {
    answer.headers.emplace_back("X-Accepted-Stream-Protocol-Versions", protocol);
  }
  return answer;
}

std::optional<HttpAnswer> DecideSpdy(const HttpRequest& request, Upgrade* upgrade) {
  const std::vector<std::string> offered = request.List("x-stream-protocol-version");
  if (offered.empty()) {
    return Bad("the header X-Stream-Protocol-Version is missing");
  }
  return ChooseProtocol(offered, upgrade);
}

std::optional<HttpAnswer> DecideWebSocket(const HttpRequest& request, Upgrade* upgrade) {
  if (request.method != "GET") {
    return HttpAnswer{
        .status = 405, .text = "a WebSocket is opened by GET", .headers = {{"Allow", "GET"}}};
  }
  if (!request.Has("sec-websocket-version", "13")) {
    return HttpAnswer{.status = 426,
                      .text = "Sec-WebSocket-Version must be 13",
                      .headers = {{"Sec-WebSocket-Version", "13"}, {"Upgrade", "websocket"}}};
  }
  const std::vector<std::string> keys = request.List("sec-websocket-key");
  std::string nonce;
  if (keys.size() != 1 || !absl::Base64Unescape(keys[0], &nonce) || nonce.size() != 16) {
    return Bad("Sec-WebSocket-Key must be 16 bytes in base64");
  }
  upgrade->websocket_key = keys[0];
  const std::vector<std::string> offered = request.List("sec-websocket-protocol");
  if (offered.empty()) {
    return std::nullopt;
  }
  return ChooseProtocol(offered, upgrade);
}

}  // namespace

std::string_view KindName(SessionKind kind) {
  switch (kind) {
    case SessionKind::kExec:
      return "exec";
    case SessionKind::kAttach:
      return "attach";
    case SessionKind::kPortForward:
      break;
  }
  return "portforward";
}

std::variant<Upgrade, HttpAnswer> DecideUpgrade(const HttpRequest& request) {
  std::optional<Upgrade> upgrade = ParseTarget(request.target);
  if (!upgrade.has_value()) {
    return HttpAnswer{.status = 404, .text = "no such page"};
  }
  if (request.method != "GET" && request.method != "POST") {
    return HttpAnswer{
        .status = 405, .text = "only GET and POST are served", .headers = {{"Allow", "GET, POST"}}};
  }
  if (!request.is_http_1_1) {
    return HttpAnswer{.status = 505, .text = "HTTP/1.1 is spoken here"};
  }
  if (!request.Has("connection", "upgrade")) {
    return Bad("the header Connection does not name upgrade");
  }
  upgrade->websocket = request.Has("upgrade", "websocket");
  if (!upgrade->websocket && !request.Has("upgrade", kSpdy)) {
    return Bad("the header Upgrade names neither SPDY/3.1 nor websocket");
  }
  std::optional<HttpAnswer> refusal =
      upgrade->websocket ? DecideWebSocket(request, &*upgrade) : DecideSpdy(request, &*upgrade);
  if (refusal.has_value()) {
    return *std::move(refusal);
  }
  return *std::move(upgrade);
}

std::string RenderSpdyUpgrade(const Upgrade& upgrade) {
  return base::StrCat("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ", kSpdy,
                      "\r\nX-Stream-Protocol-Version: ", upgrade.protocol, "\r\n\r\n");
}

}  // namespace streaming
