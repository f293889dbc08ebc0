// The door of crisp-stream: one accepted connection from its TLS handshake and HTTP request to the
// session that its token stands for.
#pragma once

#include <functional>
#include <memory>

// clang-format off
#include "runtimeservice/streaming/async.h"  // Before anything of Asio.
// clang-format on

#include <boost/asio/ip/tcp.hpp>

#include "runtimeservice/streaming/byte_stream.h"
#include "runtimeservice/streaming/limits.h"
#include "runtimeservice/streaming/sessions.h"
#include "runtimeservice/streaming/tls_context.h"

namespace streaming {

// What all connections share; all of it outlives them.
struct Door {
  asio::io_context& loop;
  Limits limits;
  TlsContext* tls = nullptr;  // Null: plain HTTP.
  SessionSource& source;
  SessionRunner& runner;
  // Who speaks SPDY on a connection: its client of channel.k8s.io in version 1 to 4, and of
  // portforward.k8s.io.
  std::function<std::unique_ptr<CommandClient>(std::unique_ptr<ByteStream>, int version)>
      spdy_command;
  std::function<std::unique_ptr<ForwardClient>(std::unique_ptr<ByteStream>)> spdy_forward;
};

// Serves `socket` to its end: refuses the request with an HTTP answer, or upgrades the connection,
// runs its session and closes. A token is redeemed only when all else of the request is right.
// Handshake and header may take Limits::creation together; their sizes are bounded. `admit` may be
// null.
Task<> ServeConnection(asio::ip::tcp::socket socket, const Door& door, Admit admit = nullptr);

}  // namespace streaming
