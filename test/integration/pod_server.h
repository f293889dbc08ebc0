// TCP servers of the tests inside of a pod's network.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace test {

// Serves each connection on a thread of its own until the object goes, which also ends them.
class PodServer {
 public:
  enum class Kind {
    kEcho,    // Sends back what comes, and the end after it.
    kDigest,  // Reads to the end, then sends the count and a sum of the bytes as a line.
    kSource,  // Reads a line with a count and sends as many of TestBytes(1).
    kSilent,  // Accepts and reads nothing.
    kReset,   // Reads one byte and resets the connection.
  };

  // `network` is the path of a network namespace (empty: ours), `address` "127.0.0.1" or "::1".
  static absl::StatusOr<std::unique_ptr<PodServer>> Start(const std::string& network,
                                                          const std::string& address, Kind kind);
  ~PodServer();

  uint16_t port() const { return port_; }

 private:
  PodServer(base::UniqueFd listener, uint16_t port, Kind kind);

  base::UniqueFd listener_;
  const uint16_t port_;
  std::thread thread_;
};

// The sum that kDigest makes, by FNV-1a; it does not depend on how the bytes are cut.
class ByteSum {
 public:
  void Add(std::string_view bytes);
  // "COUNT SUM".
  std::string Text() const;

 private:
  uint64_t count_ = 0;
  uint64_t sum_ = 0xcbf29ce484222325u;
};

}  // namespace test
