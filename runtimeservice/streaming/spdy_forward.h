// The client of a port-forward that speaks SPDY: portforward.k8s.io, on a connection of its own or
// tunnelled through a WebSocket.
#pragma once

#include <memory>

#include "runtimeservice/streaming/byte_stream.h"
#include "runtimeservice/streaming/forward_client.h"
#include "runtimeservice/streaming/limits.h"

namespace streaming {

// `bytes` begin behind the HTTP upgrade.
std::unique_ptr<ForwardClient> MakeSpdyForwardClient(asio::io_context& loop,
                                                     std::unique_ptr<ByteStream> bytes,
                                                     const Limits& limits);

}  // namespace streaming
