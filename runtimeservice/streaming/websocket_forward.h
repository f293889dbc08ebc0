// The client of a port-forward in the older protocol over WebSocket (v4.channel.k8s.io,
// v4.base64.channel.k8s.io or none): a pair of channels for each port of the request.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "runtimeservice/streaming/forward_client.h"
#include "runtimeservice/streaming/websocket_connection.h"

namespace streaming {

// A channel's number is one byte, and a port has two channels (one digit in base64 forms).
size_t MaxForwardedPorts(std::string_view protocol);

// `connection` has answered the client's request and speaks `protocol`. The connections to `ports`,
// at most MaxForwardedPorts, are wanted at once; when all have ended the client is said goodbye.
std::unique_ptr<ForwardClient> MakeWebSocketForwardClient(
    asio::io_context& loop, std::unique_ptr<WebSocketConnection> connection,
    std::string_view protocol, std::vector<uint16_t> ports);

}  // namespace streaming
