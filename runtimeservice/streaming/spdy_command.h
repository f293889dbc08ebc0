// The client of an exec or attach that speaks SPDY: channel.k8s.io, versions 1 to 4.
#pragma once

#include <memory>

#include "runtimeservice/streaming/byte_stream.h"
#include "runtimeservice/streaming/command_client.h"
#include "runtimeservice/streaming/limits.h"

namespace streaming {

// `bytes` begin behind the HTTP upgrade. `version` 1 is channel.k8s.io, 2 to 4 are
// vN.channel.k8s.io: 3 adds the terminal's size, 4 the status as JSON.
std::unique_ptr<CommandClient> MakeSpdyCommandClient(asio::io_context& loop,
                                                     std::unique_ptr<ByteStream> bytes, int version,
                                                     const Limits& limits);

}  // namespace streaming
