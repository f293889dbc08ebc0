// The client of a port-forward, whatever it speaks: pairs of SPDY streams, also tunnelled over
// WebSocket, or the channel pairs of the older WebSocket protocol.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtimeservice/streaming/async.h"

namespace streaming {

// One connection that the client wants to a port of the pod. One coroutine reads and one writes at
// a time.
class ForwardedConnection {
 public:
  virtual ~ForwardedConnection() = default;

  virtual uint16_t port() const = 0;
  // What the client sent, valid until the next Read; empty at its half-close. CANCELLED when the
  // client gave this connection up or is gone. What waits here is bounded: a target that does not
  // read slows its client down in the end, and the client's other connections with it.
  virtual Task<absl::StatusOr<std::string_view>> Read() = 0;
  // Returns when the bytes are on their way. CANCELLED as above.
  virtual Task<absl::Status> Write(std::string_view bytes) = 0;
  // The target sends no more.
  virtual Task<> FinishWriting() = 0;
  // Whether Read and Write would say so: for who waits for something else.
  virtual bool cancelled() const = 0;
  // It cannot go on: `text` goes to the connection's error stream, and both streams are reset. The
  // Go client then drops all its connections, so only for real failures.
  virtual Task<> Fail(std::string_view text) = 0;
};

class ForwardClient {
 public:
  virtual ~ForwardClient() = default;

  using OnConnection = std::function<void(std::shared_ptr<ForwardedConnection>)>;
  // Reads the client until it leaves, is idle for too long or breaks the protocol; `opened` is
  // called for each connection it wants. When it returns every connection is CANCELLED; the objects
  // may outlive this one. Returns why, as CommandClient::ReadInput does.
  virtual Task<absl::Status> Serve(OnConnection opened) = 0;
  // Drops the client: Serve returns. Repeats do nothing.
  virtual void Abort() = 0;
};

}  // namespace streaming
