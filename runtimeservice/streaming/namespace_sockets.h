// Sockets in a pod's network namespace.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runtimeservice/streaming/async.h"

namespace streaming {

// For one connection to the loopback address of either family; at least one is valid.
struct LoopbackSockets {
  base::UniqueFd ipv4;
  base::UniqueFd ipv6;
};

// Makes both in the network namespace at `path`, on a thread that enters it and ends, so that
// neither this process nor a session keeps the namespace alive; in our own when `path` is empty.
// `path` must outlive the call.
Task<absl::StatusOr<LoopbackSockets>> MakeLoopbackSockets(asio::io_context& loop,
                                                          const std::string& path);

}  // namespace streaming
