#include "runtimeservice/streaming/socket_stream.h"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/strings.h"

namespace streaming {
namespace {

using asio::ip::tcp;

// Best effort: a socket that has none of these options (a test's socket pair) serves as well.
void Prepare(tcp::socket& socket) {
  Error ignored;
  socket.non_blocking(true, ignored);
  socket.set_option(tcp::no_delay(true), ignored);
  // A client whose host has gone without a word is noticed within two minutes.
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  for (const auto& [option, value] :
       {std::pair(TCP_KEEPIDLE, 60), std::pair(TCP_KEEPINTVL, 15), std::pair(TCP_KEEPCNT, 4)}) {
    setsockopt(socket.native_handle(), IPPROTO_TCP, option, &value, sizeof(value));
  }
}

size_t SendQueue(tcp::socket& socket) {
  int bytes = 0;
  const bool known =
      socket.is_open() && ioctl(socket.native_handle(), SIOCOUTQ, &bytes) == 0 && bytes > 0;
  return known ? static_cast<size_t>(bytes) : 0;
}

class TcpStream final : public SocketStream {
 public:
  explicit TcpStream(tcp::socket socket) : socket_(std::move(socket)) { Prepare(socket_); }

  Task<absl::Status> Handshake() override { co_return absl::OkStatus(); }

  Task<absl::StatusOr<size_t>> Read(std::span<char> buffer) override {
    if (const size_t size = TakeUnread(buffer); size > 0) {
      co_return size;
    }
    Error error;
    const asio::mutable_buffer target(buffer.data(), buffer.size());
    const size_t size = co_await socket_.async_read_some(target, Await(error));
    if (error && error != asio::error::eof) {
      co_return ToStatus(error, "read");
    }
    co_return size;
  }

  Task<absl::Status> Write(std::span<const std::string_view> pieces) override {
    std::vector<asio::const_buffer> buffers;
    buffers.reserve(pieces.size());
    for (const std::string_view piece : pieces) {
      buffers.emplace_back(piece.data(), piece.size());
    }
    Error error;
    co_await asio::async_write(socket_, buffers, Await(error));
    co_return ToStatus(error, "write");
  }

  Task<> FinishWriting() override {
    Error ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    co_return;
  }

  void Close() override {
    Error ignored;
    socket_.close(ignored);
  }

  void StopReading() override {
    Error ignored;
    socket_.shutdown(tcp::socket::shutdown_receive, ignored);
  }

  size_t Unacknowledged() override { return SendQueue(socket_); }

 private:
  tcp::socket socket_;
};

// The socket as OpenSSL sees it. Its own socket BIO uses write(2), and SIGPIPE with it.
int BioWrite(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t sent = send(fd, data, static_cast<size_t>(size), MSG_NOSIGNAL);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
    BIO_set_retry_write(bio);
  }
  return static_cast<int>(sent);
}

int BioRead(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t received = recv(fd, data, static_cast<size_t>(size), 0);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) {
    BIO_set_retry_read(bio);
  }
  if (received == 0) {
    BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
  }
  return static_cast<int>(received);
}

long BioControl(BIO* bio, int command, long, void*) {
  switch (command) {
    case BIO_CTRL_FLUSH:
      return 1;
    case BIO_CTRL_EOF:
      return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0 ? 1 : 0;
    default:
      return 0;
  }
}

BIO* NewSocketBio(int fd) {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "client socket");
    BIO_meth_set_write(made, BioWrite);
    BIO_meth_set_read(made, BioRead);
    BIO_meth_set_ctrl(made, BioControl);
    return made;
  }();
  BIO* bio = BIO_new(method);
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  return bio;
}

struct SslDeleter {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

// OpenSSL reads and writes the socket itself; waiting is Asio's.
class TlsStream final : public SocketStream {
 public:
  TlsStream(tcp::socket socket, TlsContextPtr context)
      : socket_(std::move(socket)), context_(std::move(context)), ssl_(SSL_new(context_.get())) {
    Prepare(socket_);
    BIO* bio = NewSocketBio(socket_.native_handle());
    SSL_set_bio(ssl_.get(), bio, bio);
  }

  Task<absl::Status> Handshake() override {
    // Once closed its descriptor's number may be another client's.
    while (!failed_) {
      ERR_clear_error();
      const int result = SSL_accept(ssl_.get());
      if (result == 1) {
        co_return absl::OkStatus();
      }
      absl::Status retry = co_await WaitAfter(result, "TLS handshake");
      if (!retry.ok()) {
        co_return retry;
      }
    }
    co_return absl::CancelledError("TLS handshake: closed");
  }

  Task<absl::StatusOr<size_t>> Read(std::span<char> buffer) override {
    if (const size_t size = TakeUnread(buffer); size > 0) {
      co_return size;
    }
    while (!failed_ && !reading_stopped_) {
      size_t size = 0;
      ERR_clear_error();
      const int result = SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &size);
      if (result == 1) {
        co_await LetOthersRun();
        co_return size;
      }
      if ((SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0) {
        co_return 0;
      }
      absl::Status retry = co_await WaitAfter(result, "TLS read");
      if (!retry.ok()) {
        co_return retry;
      }
    }
    if (reading_stopped_) {
      co_return 0;
    }
    co_return absl::CancelledError("TLS read: closed");
  }

  Task<absl::Status> Write(std::span<const std::string_view> pieces) override {
    // Small pieces (a frame's head, the beginning of its payload) share a record.
    std::array<char, kRecordBytes> record;
    size_t filled = 0;
    for (std::string_view piece : pieces) {
      while (!piece.empty()) {
        if (filled == 0 && piece.size() >= record.size()) {
          const std::string_view whole =
              piece.substr(0, piece.size() / kRecordBytes * kRecordBytes);
          absl::Status written = co_await WriteRecords(whole);
          if (!written.ok()) {
            co_return written;
          }
          piece.remove_prefix(whole.size());
          continue;
        }
        const size_t taken = std::min(piece.size(), record.size() - filled);
        std::memcpy(record.data() + filled, piece.data(), taken);
        piece.remove_prefix(taken);
        filled += taken;
        if (filled == record.size()) {
          absl::Status written = co_await WriteRecords(std::string_view(record.data(), filled));
          if (!written.ok()) {
            co_return written;
          }
          filled = 0;
        }
      }
    }
    absl::Status written = co_await WriteRecords(std::string_view(record.data(), filled));
    co_return written;
  }

  Task<> FinishWriting() override {
    while (!failed_) {
      ERR_clear_error();
      const int result = SSL_shutdown(ssl_.get());
      if (result >= 0) {
        co_return;
      }
      absl::Status retry = co_await WaitAfter(result, "TLS close");
      if (!retry.ok()) {
        co_return;
      }
    }
  }

  void Close() override {
    failed_ = true;
    Error ignored;
    socket_.close(ignored);
  }

  void StopReading() override {
    reading_stopped_ = true;  // An end of file here would be an attack to OpenSSL, and fatal.
    Error ignored;
    socket_.cancel(ignored);
  }

  size_t Unacknowledged() override { return SendQueue(socket_); }

 private:
  static constexpr size_t kRecordBytes = 16 << 10;

  Task<absl::Status> WriteRecords(std::string_view bytes) {
    while (!bytes.empty() && !failed_) {
      size_t size = 0;
      ERR_clear_error();
      const int result = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &size);
      if (result == 1) {
        bytes.remove_prefix(size);
        co_await LetOthersRun();
        continue;
      }
      absl::Status retry = co_await WaitAfter(result, "TLS write");
      if (!retry.ok()) {
        co_return retry;
      }
    }
    co_return bytes.empty() ? absl::OkStatus() : absl::CancelledError("TLS write: closed");
  }

  // After a call that gave `result`: OK when it is to be repeated, which is when the socket is
  // ready.
  Task<absl::Status> WaitAfter(int result, std::string_view what) {
    const int system_error = errno;
    const int reason = SSL_get_error(ssl_.get(), result);
    if (failed_) {
      co_return absl::CancelledError(base::StrCat(what, ": closed"));
    }
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) {
      Error error;
      const auto direction =
          reason == SSL_ERROR_WANT_READ ? tcp::socket::wait_read : tcp::socket::wait_write;
      co_await socket_.async_wait(direction, Await(error));
      if (error == asio::error::operation_aborted && reading_stopped_ && !failed_) {
        co_return absl::OkStatus();
      }
      co_return ToStatus(error, what);
    }
    // After these OpenSSL must not be called again, not even for its farewell.
    failed_ = true;
    if (reason == SSL_ERROR_SYSCALL && system_error != 0) {
      co_return ToStatus(Error(system_error, boost::system::system_category()), what);
    }
    const unsigned long code = ERR_get_error();
    if (reason == SSL_ERROR_SYSCALL || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
      co_return absl::CancelledError(base::StrCat(what, ": the client left"));
    }
    const char* words = ERR_reason_error_string(code);
    co_return absl::UnauthenticatedError(
        base::StrCat(what, ": ", words == nullptr ? "failed" : words));
  }

  // OpenSSL may go on for ever without waiting once, when the client is fast enough.
  Task<> LetOthersRun() {
    if (++steps_ % 16 == 0) {
      co_await asio::post(socket_.get_executor(), asio::use_awaitable);
    }
  }

  tcp::socket socket_;
  TlsContextPtr context_;
  std::unique_ptr<SSL, SslDeleter> ssl_;
  bool failed_ = false;
  bool reading_stopped_ = false;
  size_t steps_ = 0;
};

}  // namespace

size_t SocketStream::TakeUnread(std::span<char> buffer) {
  const size_t size = std::min(buffer.size(), unread_.size());
  if (size > 0) {
    std::memcpy(buffer.data(), unread_.data(), size);
    unread_.erase(0, size);
  }
  return size;
}

std::unique_ptr<SocketStream> MakeTcpStream(tcp::socket socket) {
  return std::make_unique<TcpStream>(std::move(socket));
}

std::unique_ptr<SocketStream> MakeTlsStream(tcp::socket socket, TlsContextPtr context) {
  return std::make_unique<TlsStream>(std::move(socket), std::move(context));
}

}  // namespace streaming
