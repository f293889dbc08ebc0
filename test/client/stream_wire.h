// Connections to a streaming server (exec, attach, port-forward), written apart from the server's
// code so that one checks the other: blocking sockets, plain or TLS, and the HTTP upgrade.
#pragma once

#include <sys/uio.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace test {

// How long a test waits for one answer of a server before that counts as a fault.
inline constexpr absl::Duration kAnswer = absl::Seconds(30);

// What a client of TLS shows and believes; files in PEM.
struct TlsFiles {
  std::string ca;           // Empty: any certificate of the server is good.
  std::string certificate;  // Empty: none is shown.
  std::string key;
};

// One thread reads and one writes at a time.
class Wire {
 public:
  virtual ~Wire() = default;

  // At least one byte; 0 at the peer's end of file. DEADLINE_EXCEEDED after `timeout`, UNAVAILABLE
  // when the connection broke.
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration timeout) = 0;
  // All of `head` and then of `body`, in one system call where it can be.
  virtual absl::Status Write(std::string_view head, std::string_view body) = 0;
  // No more is written; a FIN follows.
  virtual void FinishWriting() = 0;
  // Ends the connection by a RST, as a process does that is killed with bytes unread.
  virtual void Reset() = 0;
};

// Connects to HOST:PORT of `url` ("http://…" or "https://…"), TLS included.
absl::StatusOr<std::unique_ptr<Wire>> ConnectWire(std::string_view url, const TlsFiles& tls = {});

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// An answer to an upgrade. `body` is what came with a refusal; after a 101 the wire goes on.
struct HttpAnswer {
  int code = 0;
  std::string body;
  HttpHeaders headers;  // Names in lower case.
  std::unique_ptr<Wire> wire;

  // The first header of this name (lower case); empty if there is none.
  std::string Header(std::string_view name) const;
};

// Sends "`method` PATH HTTP/1.1" with Host and `headers` to `url`, and reads the answer's head.
absl::StatusOr<HttpAnswer> SendUpgrade(std::string_view url, std::string_view method,
                                       const HttpHeaders& headers, const TlsFiles& tls = {});

// `answer` as an error, unless it is a 101: NOT_FOUND for a 404, else UNKNOWN with code and body.
absl::Status ExpectUpgraded(const HttpAnswer& answer);

}  // namespace test
