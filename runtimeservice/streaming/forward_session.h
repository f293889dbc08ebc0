// One port-forward: a client and its connections to ports of a pod.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/stream.pb.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/descriptor.h"
#include "runtimeservice/streaming/forward_client.h"
#include "runtimeservice/streaming/task_group.h"

namespace streaming {

namespace stream = crisp::stream;

// How long a port may take to accept a connection.
inline constexpr absl::Duration kConnectLimit = absl::Seconds(10);

// Ports are those of the pod's loopback addresses: 127.0.0.1, and ::1 where that one refuses.
class ForwardSession {
 public:
  // Everything must outlive this object.
  ForwardSession(asio::io_context& loop, const stream::PortForwardSession& session,
                 ForwardClient& client, absl::Duration connect_limit = kConnectLimit);

  // Returns when the client is gone; no connection is left then. Once.
  Task<> Run();

 private:
  // One connection: both ends. Kept by the coroutines that work on it.
  struct Pair;

  Task<> Forward(std::shared_ptr<ForwardedConnection> connection);
  Task<absl::Status> Connect(Pair& pair);
  Task<absl::Status> ConnectBy(Descriptor& socket, bool ipv6, uint16_t port);
  Task<bool> WriteToTarget(Pair& pair, std::string_view bytes);
  Task<> CopyToTarget(std::shared_ptr<Pair> pair);
  Task<> CopyToClient(std::shared_ptr<Pair> pair);

  asio::io_context& loop_;
  const stream::PortForwardSession& session_;
  ForwardClient& client_;
  const absl::Duration connect_limit_;
  bool ended_ = false;
  std::set<Pair*> pairs_;
  Turns makers_;
  TaskGroup tasks_;
};

}  // namespace streaming
