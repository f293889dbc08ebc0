// The client of an exec or an attach, whatever it speaks: SPDY with channel.k8s.io v1 to v4, or
// WebSocket with v4, v5 and their base64 forms. Who runs the session knows nothing of frames.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/command_result.h"

namespace streaming {

// What the request asked for. With `tty` there is no standard error.
struct CommandStreams {
  bool stdin_wanted = false;
  bool stdout_wanted = false;
  bool stderr_wanted = false;
  bool tty = false;
};

// What a client sends; implemented by the session. The client is not read on until a call returns:
// that is the back-pressure.
class CommandInput {
 public:
  virtual ~CommandInput() = default;
  // `bytes` are valid until it returns. After StdinEnded none come.
  virtual Task<> Stdin(std::string_view bytes) = 0;
  // May come while Stdin waits, which is to return then: the client has left.
  virtual void StdinEnded() = 0;
  // Neither is 0.
  virtual void Resized(uint16_t width, uint16_t height) = 0;
};

enum class OutputStream { kStdout, kStderr };

class CommandClient {
 public:
  virtual ~CommandClient() = default;

  // Returns once the client has opened every stream that `streams` names, or fails (the limit is
  // creation_seconds). Before that nothing is to be started. Input that comes early is kept, within
  // limits.
  virtual Task<absl::Status> Open(const CommandStreams& streams) = 0;

  // Reads what the client sends until the connection ends and returns why: OK after Finish, when
  // the client said goodbye; CANCELLED when it left before; else what it did wrong (its connection
  // is closed then) or that it was idle for too long. `input` outlives the call.
  virtual Task<absl::Status> ReadInput(CommandInput& input) = 0;

  // Sends output; several coroutines may call it. Returns when the bytes are on their way, so that
  // a slow client slows its writer down. A stream that the client did not open swallows them.
  // CANCELLED when the client is gone.
  virtual Task<absl::Status> Write(OutputStream stream, std::string_view bytes) = 0;

  // Ends the outputs, says how it went (in the words of the protocol spoken) and ends the
  // connection in an order in which no output is lost; returns when the client has closed or has
  // had time to. Once, after the last Write.
  virtual Task<> Finish(const CommandResult& result) = 0;

  // Drops the connection: ReadInput and Write return. Repeats do nothing.
  virtual void Abort() = 0;
};

}  // namespace streaming
