// SPDY inside a WebSocket (SPDY/3.1+portforward.k8s.io): the payloads of binary messages, one
// behind the other, are the bytes; where a message ends means nothing.
#pragma once

#include <memory>

#include "runtimeservice/streaming/byte_stream.h"
#include "runtimeservice/streaming/websocket_connection.h"

namespace streaming {

// `connection` has answered the client's request and speaks binary messages.
std::unique_ptr<ByteStream> MakeWebSocketTunnel(std::unique_ptr<WebSocketConnection> connection);

}  // namespace streaming
