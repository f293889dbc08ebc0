// The CRI's unix socket.
#pragma once

#include <grpcpp/impl/service_type.h>
#include <grpcpp/server.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace crispd {

struct ServerOptions {
  std::string socket;  // At most 107 bytes.
  int max_send_bytes = 80 << 20;
  int max_receive_bytes = 80 << 20;
};

// Serves from Start to Drain. Not thread-safe.
class Server {
 public:
  // Listens with mode 0660, making missing parent directories. A socket nobody answers on is
  // replaced; ALREADY_EXISTS when somebody does, FAILED_PRECONDITION when the path is no socket.
  // `services` must outlive the server.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options,
                                                       const std::vector<grpc::Service*>& services);
  // Drains for no time, if it was not done before.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Stops accepting, lets running requests end until `limit` has passed, then cancels the rest and
  // waits for them a second. Returns whether all have ended: if not, a handler is stuck, the server
  // can not be destroyed and the process should leave by _exit.
  [[nodiscard]] bool Drain(absl::Duration limit);

 private:
  explicit Server(std::unique_ptr<grpc::Server> server) : server_(std::move(server)) {}

  std::unique_ptr<grpc::Server> server_;
  bool drained_ = false;
};

// Sends gRPC's own log lines (errors only) to the daemon's log.
void RouteGrpcLog();

}  // namespace crispd
