// Clients of exec, attach and port-forward URLs as the CRI's callers are: SPDY with
// channel.k8s.io v1 to v4, WebSocket with v4, v5 and base64, SPDY tunnelled over WebSocket.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "test/client/spdy_wire.h"
#include "test/client/websocket_wire.h"

namespace test {

enum class Transport { kSpdy, kWebSocket };

// The numbers are those of the WebSocket protocols.
enum class Channel { kStdin = 0, kStdout = 1, kStderr = 2, kError = 3, kResize = 4 };

// What is asked of the server; the streams are those of the request that gave the URL.
struct CommandOptions {
  Transport transport = Transport::kSpdy;
  // Offered in this order. Empty: v4 over SPDY, v5 over WebSocket.
  std::vector<std::string> protocols;
  bool in = false;
  bool out = true;
  bool err = true;  // Ignored with a terminal.
  bool tty = false;
  TlsFiles tls;
  Masking masking = Masking::kRandom;
};

struct CommandEvent {
  enum class Kind {
    kData,   // `bytes` of `channel`, valid until the next call.
    kEnded,  // `channel` has no more.
    kPing,
    kGoodbye,  // The server ended the connection as its protocol says.
    kBroken,   // The server ended it otherwise.
  };
  Kind kind = Kind::kData;
  Channel channel = Channel::kStdout;
  std::string_view bytes;
};

// How a whole session went.
struct CommandOutcome {
  std::string out;
  std::string err;
  std::string status;     // What the error stream said, as it came.
  bool complete = false;  // Every stream was ended before the connection was.

  // The exit code of a Status object: 0 for Success, -1 when it says something else.
  int exit_code() const;
};

// One thread reads; another may send.
class CommandSession {
 public:
  virtual ~CommandSession() = default;

  // Connects and opens all streams.
  static absl::StatusOr<std::unique_ptr<CommandSession>> Open(const std::string& url,
                                                              const CommandOptions& options);

  // The sub-protocol that the server chose.
  const std::string& protocol() const { return protocol_; }

  virtual absl::Status Send(Channel channel, std::string_view bytes) = 0;
  // Half-closes stdin. FAILED_PRECONDITION where the protocol cannot.
  virtual absl::Status FinishInput() = 0;
  virtual absl::Status Ping() = 0;
  virtual absl::StatusOr<CommandEvent> Next(absl::Duration timeout) = 0;
  virtual Wire& wire() = 0;

  absl::Status Resize(unsigned width, unsigned height);
  // Reads until the server has said all, then leaves. Each wait is at most `timeout`.
  absl::StatusOr<CommandOutcome> ReadAll(absl::Duration timeout = kAnswer);
  // Reads until `text` is in what came of standard output so far; all of that.
  absl::StatusOr<std::string> ReadUntil(std::string_view text, absl::Duration timeout = kAnswer);
  // Whether event and all before mean that all is said.
  bool done() const { return done_; }

 protected:
  std::string protocol_;
  bool done_ = false;
  std::string seen_;  // Standard output so far, for ReadUntil.
};

enum class ForwardTransport { kSpdy, kTunnel };

struct ForwardEvent {
  enum class Kind {
    kData,   // `bytes` from the port.
    kError,  // `bytes` of the error stream.
    kEnded,  // The port sends no more.
    kReset,  // The connection was given up.
    kPing,
    kClosed,  // The server ended everything.
  };
  Kind kind = Kind::kData;
  size_t connection = 0;
  std::string_view bytes;
};

// A port-forward with any number of connections, numbered from 0. One thread reads; others may
// send.
class ForwardSession {
 public:
  static absl::StatusOr<std::unique_ptr<ForwardSession>> Open(const std::string& url,
                                                              ForwardTransport transport,
                                                              const TlsFiles& tls = {},
                                                              Masking masking = Masking::kRandom);

  // The next connection, to `port` of the pod.
  absl::StatusOr<size_t> Connect(uint16_t port);
  absl::Status Send(size_t connection, std::string_view bytes);
  absl::Status Finish(size_t connection);
  absl::Status Reset(size_t connection);
  absl::StatusOr<ForwardEvent> Next(absl::Duration timeout);

  SpdyWire& spdy() { return *spdy_; }

 private:
  explicit ForwardSession(std::unique_ptr<SpdyWire> spdy) : spdy_(std::move(spdy)) {}

  std::unique_ptr<SpdyWire> spdy_;
  size_t opened_ = 0;
  std::optional<size_t> ended_;  // To be told next.
};

}  // namespace test
