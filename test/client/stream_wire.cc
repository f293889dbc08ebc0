#include "test/client/stream_wire.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace test {
namespace {

constexpr size_t kMaxHead = 64 << 10;

struct Place {
  bool tls = false;
  std::string host;
  std::string port;
  std::string path;
};

absl::StatusOr<Place> ParseUrl(std::string_view url) {
  Place place;
  const size_t scheme = url.find("://");
  if (scheme == url.npos) return absl::InvalidArgumentError("not a URL");
  place.tls = url.substr(0, scheme) == "https";
  url.remove_prefix(scheme + 3);
  const size_t slash = std::min(url.find('/'), url.size());
  place.path = slash < url.size() ? std::string(url.substr(slash)) : "/";
  const std::string_view authority = url.substr(0, slash);
  const size_t colon = authority.rfind(':');
  if (colon == authority.npos) return absl::InvalidArgumentError("a URL without a port");
  place.port = std::string(authority.substr(colon + 1));
  place.host = std::string(authority.substr(0, colon));
  if (!place.host.empty() && place.host[0] == '[') {
    place.host = place.host.substr(1, place.host.size() - 2);
  }
  return place;
}

absl::Status Await(int fd, short events, absl::Duration timeout) {
  pollfd poller = {fd, events, 0};
  const int ready = poll(&poller, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  if (ready == 0) return absl::DeadlineExceededError("the server says nothing");
  if (ready < 0 && errno != EINTR) return base::ErrnoStatus(errno, "poll");
  return absl::OkStatus();
}

// Bytes that came behind an HTTP answer are kept before those of the socket.
class TcpWire : public Wire {
 public:
  explicit TcpWire(base::UniqueFd socket) : socket_(std::move(socket)) {}

  absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration timeout) override {
    RETURN_IF_ERROR(Await(socket_.get(), POLLIN, timeout));
    const ssize_t count = recv(socket_.get(), buffer, size, 0);
    if (count < 0) return absl::UnavailableError(strerror(errno));
    return static_cast<size_t>(count);
  }
  absl::Status Write(std::string_view head, std::string_view body) override {
    iovec pieces[2] = {{const_cast<char*>(head.data()), head.size()},
                       {const_cast<char*>(body.data()), body.size()}};
    msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = 2;
    while (pieces[0].iov_len + pieces[1].iov_len > 0) {
      const ssize_t count = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
      if (count < 0) return absl::UnavailableError(strerror(errno));
      auto sent = static_cast<size_t>(count);
      for (iovec& piece : pieces) {
        const size_t taken = std::min(sent, piece.iov_len);
        piece.iov_base = static_cast<char*>(piece.iov_base) + taken;
        piece.iov_len -= taken;
        sent -= taken;
      }
    }
    return absl::OkStatus();
  }
  void FinishWriting() override { shutdown(socket_.get(), SHUT_WR); }
  void Reset() override {
    const linger at_once = {1, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    socket_.Reset();
  }

 private:
  base::UniqueFd socket_;
};

// An SSL object serves one thread at a time: it is locked for each call, never while waiting.
class TlsWire : public Wire {
 public:
  static absl::StatusOr<std::unique_ptr<Wire>> Create(base::UniqueFd socket, const TlsFiles& files,
                                                      const std::string& host) {
    auto wire = std::unique_ptr<TlsWire>(new TlsWire(std::move(socket)));
    wire->context_ = SSL_CTX_new(TLS_client_method());
    if (!files.ca.empty()) {
      SSL_CTX_set_verify(wire->context_, SSL_VERIFY_PEER, nullptr);
      if (SSL_CTX_load_verify_locations(wire->context_, files.ca.c_str(), nullptr) != 1) {
        return absl::InvalidArgumentError("TLS: the CA's file");
      }
    }
    if (!files.certificate.empty() &&
        (SSL_CTX_use_certificate_file(wire->context_, files.certificate.c_str(),
                                      SSL_FILETYPE_PEM) != 1 ||
         SSL_CTX_use_PrivateKey_file(wire->context_, files.key.c_str(), SSL_FILETYPE_PEM) != 1)) {
      return absl::InvalidArgumentError("TLS: the client's certificate or key");
    }
    wire->ssl_ = SSL_new(wire->context_);
    SSL_set_fd(wire->ssl_, wire->socket_.get());
    SSL_set_tlsext_host_name(wire->ssl_, host.c_str());
    RETURN_IF_ERROR(wire->Do([&] { return SSL_connect(wire->ssl_); }, kAnswer).status());
    return std::unique_ptr<Wire>(std::move(wire));
  }
  ~TlsWire() override {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }

  absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration timeout) override {
    return Do([&] { return SSL_read(ssl_, buffer, static_cast<int>(size)); }, timeout);
  }
  absl::Status Write(std::string_view head, std::string_view body) override {
    for (std::string_view piece : {head, body}) {
      while (!piece.empty()) {
        ASSIGN_OR_RETURN(
            const size_t count,
            Do([&] { return SSL_write(ssl_, piece.data(), static_cast<int>(piece.size())); },
               absl::Hours(1)));
        piece.remove_prefix(count);
      }
    }
    return absl::OkStatus();
  }
  void FinishWriting() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    SSL_shutdown(ssl_);
  }
  void Reset() override {
    const linger at_once = {1, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    socket_.Reset();
  }

 private:
  explicit TlsWire(base::UniqueFd socket) : socket_(std::move(socket)) {
    fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
  }

  // Repeats `call` as often as it wants the socket; 0 at the peer's end.
  template <typename Call>
  absl::StatusOr<size_t> Do(const Call& call, absl::Duration timeout) {
    while (true) {
      int error = 0;
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        const int result = call();
        if (result > 0) return static_cast<size_t>(result);
        error = SSL_get_error(ssl_, result);
      }
      if (error == SSL_ERROR_ZERO_RETURN) return 0u;
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        return absl::UnavailableError("TLS: the server ended the connection");
      }
      RETURN_IF_ERROR(
          Await(socket_.get(), error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, timeout));
    }
  }

  base::UniqueFd socket_;
  std::mutex mutex_;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
};

// What was read too far comes first.
class ResumedWire : public Wire {
 public:
  ResumedWire(std::unique_ptr<Wire> wire, std::string early)
      : wire_(std::move(wire)), early_(std::move(early)) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t size, absl::Duration timeout) override {
    if (taken_ == early_.size()) return wire_->Read(buffer, size, timeout);
    const size_t count = std::min(size, early_.size() - taken_);
    memcpy(buffer, early_.data() + taken_, count);
    taken_ += count;
    return count;
  }
  absl::Status Write(std::string_view head, std::string_view body) override {
    return wire_->Write(head, body);
  }
  void FinishWriting() override { wire_->FinishWriting(); }
  void Reset() override { wire_->Reset(); }

 private:
  std::unique_ptr<Wire> wire_;
  const std::string early_;
  size_t taken_ = 0;
};

void ParseHead(std::string_view head, HttpAnswer* answer) {
  const std::vector<std::string> lines = absl::StrSplit(base::ToAbsl(head), "\r\n");
  const std::vector<std::string> first = absl::StrSplit(lines[0], ' ');
  if (first.size() < 2 || !absl::SimpleAtoi(first[1], &answer->code)) answer->code = 0;
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::pair<std::string, std::string> header =
        absl::StrSplit(lines[i], absl::MaxSplits(':', 1));
    answer->headers.emplace_back(absl::AsciiStrToLower(header.first),
                                 absl::StripAsciiWhitespace(header.second));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Wire>> ConnectWire(std::string_view url, const TlsFiles& tls) {
  ASSIGN_OR_RETURN(const Place place, ParseUrl(url));
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(place.host.c_str(), place.port.c_str(), &hints, &found) != 0) {
    return absl::InvalidArgumentError("a URL with an unknown host");
  }
  base::UniqueFd fd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int connected = connect(fd.get(), found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  if (connected != 0) return absl::UnavailableError(strerror(errno));
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (place.tls) return TlsWire::Create(std::move(fd), tls, place.host);
  return std::make_unique<TcpWire>(std::move(fd));
}

std::string HttpAnswer::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return "";
}

absl::StatusOr<HttpAnswer> SendUpgrade(std::string_view url, std::string_view method,
                                       const HttpHeaders& headers, const TlsFiles& tls) {
  ASSIGN_OR_RETURN(const Place place, ParseUrl(url));
  HttpAnswer answer;
  ASSIGN_OR_RETURN(answer.wire, ConnectWire(url, tls));
  std::string request = base::StrCat(method, " ", place.path, " HTTP/1.1\r\nHost: ", place.host,
                                     ":", place.port, "\r\n");
  for (const auto& [name, value] : headers) request += base::StrCat(name, ": ", value, "\r\n");
  RETURN_IF_ERROR(answer.wire->Write(request, "\r\n"));
  std::string text;
  char buffer[4096];
  size_t end = 0;
  while ((end = text.find("\r\n\r\n")) == text.npos) {
    ASSIGN_OR_RETURN(const size_t count, answer.wire->Read(buffer, sizeof(buffer), kAnswer));
    if (count == 0 || text.size() > kMaxHead) {
      return absl::UnavailableError("the server ended the connection without an answer");
    }
    text.append(buffer, count);
  }
  ParseHead(std::string_view(text).substr(0, end), &answer);
  text.erase(0, end + 4);
  if (answer.code == 101) {
    answer.wire = std::make_unique<ResumedWire>(std::move(answer.wire), std::move(text));
    return answer;
  }
  uint32_t length = 0;
  answer.body = std::move(text);
  if (!absl::SimpleAtoi(answer.Header("content-length"), &length)) length = kMaxHead;
  while (answer.body.size() < length) {
    const auto count = answer.wire->Read(buffer, sizeof(buffer), kAnswer);
    if (!count.ok() || *count == 0) break;
    answer.body.append(buffer, *count);
  }
  return answer;
}

absl::Status ExpectUpgraded(const HttpAnswer& answer) {
  if (answer.code == 101) return absl::OkStatus();
  const std::string text = base::StrCat("HTTP ", answer.code, ": ", answer.body);
  return answer.code == 404 ? absl::NotFoundError(text) : absl::UnknownError(text);
}

}  // namespace test
