// One running crisp-stream: listener, URLs and control socket together, and when they end.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "proto/stream.pb.h"
#include "runtimeservice/streaming/activity.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/control_server.h"
#include "runtimeservice/streaming/server.h"
#include "runtimeservice/streaming/tokens.h"

namespace streaming {

// For the loop's thread.
class Instance {
 public:
  // Listens to clients and to the daemon. The last three outlive the result, which outlives the
  // loop's run. The error names the setting that is to blame.
  static absl::StatusOr<std::unique_ptr<Instance>> Start(asio::io_context& loop,
                                                         const stream::Settings& settings,
                                                         Server::Serve serve, Tokens& tokens,
                                                         Activity& activity);

  uint16_t port() const { return server_->port(); }

  // Returns when there was neither session nor URL for linger_seconds, or, once it is retired, no
  // session; control socket and listener are closed then. A request that comes in this moment is
  // not read: its sender sees the connection end.
  Task<> Run();

  // No more lingering: it ends as soon as nothing goes on. For a machine that shuts down.
  void EndSoon();

 private:
  Instance(asio::io_context& loop, const stream::Settings& settings, Tokens& tokens,
           Activity& activity)
      : loop_(loop), settings_(settings), tokens_(tokens), activity_(activity) {}
  stream::Reply Answer(stream::Request request);
  absl::StatusOr<std::string> Open(stream::Session session);
  void Retire();

  asio::io_context& loop_;
  const stream::Settings settings_;
  Tokens& tokens_;
  Activity& activity_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<ControlServer> control_;
  bool retired_ = false;
  bool end_soon_ = false;
};

}  // namespace streaming
