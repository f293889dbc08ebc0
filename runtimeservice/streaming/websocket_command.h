// The client of an exec or attach over WebSocket: v5.channel.k8s.io, v4.channel.k8s.io, their
// predecessors and the base64 forms.
#pragma once

#include <memory>
#include <string_view>

#include "runtimeservice/streaming/command_client.h"
#include "runtimeservice/streaming/websocket_connection.h"

namespace streaming {

// `protocol` is the sub-protocol that `connection`, which has answered the client's request,
// speaks; empty: none.
std::unique_ptr<CommandClient> MakeWebSocketCommandClient(
    std::unique_ptr<WebSocketConnection> connection, std::string_view protocol);

}  // namespace streaming
