// The bytes of a client's socket, plain or under TLS.
#pragma once

// clang-format off
#include "runtimeservice/streaming/async.h"  // Before anything of Asio.
// clang-format on

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <span>
#include <string>

#include "runtimeservice/streaming/byte_stream.h"
#include "runtimeservice/streaming/tls_context.h"

namespace streaming {

// A ByteStream that HTTP is spoken on first: what was read too far is put back. Must not go while
// somebody waits in one of its functions.
class SocketStream : public ByteStream {
 public:
  // Once, before anything else; nothing to do without TLS. No time limit of its own: Close ends it.
  // CANCELLED when the client left, UNAUTHENTICATED with OpenSSL's words when the handshake failed
  // (the client was sent the alert).
  virtual Task<absl::Status> Handshake() = 0;

  // The next Read returns these bytes, which were read already, before any others.
  void Unread(std::string bytes) { unread_ = std::move(bytes); }

  // Whoever waits in Read gets 0, now and from now on; writing goes on.
  virtual void StopReading() = 0;

 protected:
  // Moves what fits of the unread bytes into `buffer`; 0: there are none.
  size_t TakeUnread(std::span<char> buffer);

 private:
  std::string unread_;
};

// Over `socket` as it is; sets TCP_NODELAY and keep-alive on it.
std::unique_ptr<SocketStream> MakeTcpStream(asio::ip::tcp::socket socket);

// Under TLS with `context`. With socket options as above.
std::unique_ptr<SocketStream> MakeTlsStream(asio::ip::tcp::socket socket, TlsContextPtr context);

}  // namespace streaming
