// The server's side of TLS: certificate, versions and cipher suites, read again when their files
// change.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "proto/stream.pb.h"

struct ssl_ctx_st;

namespace streaming {

// OpenSSL's SSL_CTX: what all connections made with it share.
using TlsContextPtr = std::shared_ptr<ssl_ctx_st>;

// Keeps the context that new connections take. Not thread-safe.
class TlsContext {
 public:
  // Reads the files that `settings` names (tls_certificate, tls_key, tls_client_ca). Fails with
  // INVALID_ARGUMENT naming the key of [crisp.api], its file and OpenSSL's reason.
  static absl::StatusOr<std::unique_ptr<TlsContext>> Make(const crisp::stream::Settings& settings);

  // The context for a new connection. Looks whether a file has changed (stat(2) each); new content
  // that cannot be used is logged once, and what was there is used on.
  TlsContextPtr Current();

 private:
  // What tells two contents of a path apart.
  struct Identity {
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t size = 0;
    int64_t changed_nanos = 0;  // ctime: a copied mtime does not deceive it.
    bool operator==(const Identity&) const = default;
  };
  using Identities = std::array<Identity, 3>;

  explicit TlsContext(const crisp::stream::Settings& settings) : settings_(settings) {}
  Identities LookAtFiles() const;

  const crisp::stream::Settings settings_;
  Identities tried_ = {};  // As of the last attempt to read them.
  TlsContextPtr current_;
};

}  // namespace streaming
