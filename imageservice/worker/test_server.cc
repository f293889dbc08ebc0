#include "imageservice/worker/test_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <utility>

#include "absl/time/clock.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace imageservice::worker {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free_all)>;

Bio Memory(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free_all);
}

int ListenOnLoopback(int* port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(fd, 64) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    abort();
  }
  *port = ntohs(address.sin_port);
  return fd;
}

SSL_CTX* MakeContext(const TestServer::Tls& tls) {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  X509* certificate =
      PEM_read_bio_X509(Memory(tls.certificate.certificate).get(), nullptr, nullptr, nullptr);
  EVP_PKEY* key =
      PEM_read_bio_PrivateKey(Memory(tls.certificate.key).get(), nullptr, nullptr, nullptr);
  SSL_CTX_set_security_level(context, 0);  // Old versions need that.
  if (SSL_CTX_use_certificate(context, certificate) != 1 ||
      SSL_CTX_use_PrivateKey(context, key) != 1) {
    abort();
  }
  X509_free(certificate);
  EVP_PKEY_free(key);
  if (tls.min_version != 0) SSL_CTX_set_min_proto_version(context, tls.min_version);
  if (tls.max_version != 0) {
    SSL_CTX_set_max_proto_version(context, tls.max_version);
    SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0");
  }
  if (!tls.client_authority.empty()) {
    X509* authority =
        PEM_read_bio_X509(Memory(tls.client_authority).get(), nullptr, nullptr, nullptr);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority);
    X509_free(authority);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return context;
}

// "bytes=5-" or "bytes=5-9" of a body.
std::optional<std::pair<size_t, size_t>> Range(const std::string& value, size_t size) {
  if (!value.starts_with("bytes=")) return std::nullopt;
  const size_t dash = value.find('-');
  const size_t first = std::stoul(value.substr(6));
  const std::string last = value.substr(dash + 1);
  return std::pair(first, last.empty() ? size - 1 : std::min(size - 1, std::stoul(last)));
}

}  // namespace

std::string TestRequest::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

bool TestConnection::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t piece = std::min<size_t>(bytes.size(), 1 << 20);
    const ssize_t n = ssl_ != nullptr ? SSL_write(ssl_, bytes.data(), static_cast<int>(piece))
                                      : send(fd_, bytes.data(), piece, MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool TestConnection::SendSlowly(std::string_view bytes, int64_t bytes_per_second) {
  const base::SteadyTime begin = base::SteadyTime::Now();
  const auto piece = static_cast<size_t>(std::max<int64_t>(1, bytes_per_second / 50));
  for (size_t sent = 0; sent < bytes.size(); sent += piece) {
    const absl::Duration due =
        absl::Seconds(1) * (static_cast<double>(sent) / static_cast<double>(bytes_per_second));
    if (!server_->WaitUntil(begin + due) || !Send(bytes.substr(sent, piece))) {
      return false;
    }
  }
  return true;
}

void TestConnection::Hang() { server_->WaitUntil(base::SteadyTime::InfiniteFuture()); }

void TestConnection::JoinTo(int port) {
  const base::UniqueFd other(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (connect(other.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return;
  }
  pollfd ends[] = {{.fd = fd_, .events = POLLIN, .revents = 0},
                   {.fd = other.get(), .events = POLLIN, .revents = 0}};
  char buffer[64 << 10];
  while (poll(ends, 2, -1) > 0) {
    for (const size_t from : {size_t{0}, size_t{1}}) {
      if (ends[from].revents == 0) continue;
      const ssize_t n = recv(ends[from].fd, buffer, sizeof(buffer), 0);
      if (n <= 0) return;
      for (ssize_t sent = 0; sent < n;) {
        const ssize_t m =
            send(ends[1 - from].fd, buffer + sent, static_cast<size_t>(n - sent), MSG_NOSIGNAL);
        if (m <= 0) return;
        sent += m;
      }
    }
  }
}

void TestConnection::Reset() {
  const linger option = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &option, sizeof(option));
}

long TestConnection::Receive(char* buffer, size_t size) {
  return ssl_ != nullptr ? SSL_read(ssl_, buffer, static_cast<int>(size))
                         : recv(fd_, buffer, size, 0);
}

TestServer::TestServer(Handler handler, std::optional<Tls> tls) : handler_(std::move(handler)) {
  signal(SIGPIPE, SIG_IGN);  // OpenSSL writes to connections that are gone.
  if (tls.has_value()) {
    context_ = MakeContext(*tls);
  }
  listener_ = ListenOnLoopback(&port_);
  thread_ = std::thread([this] { Accept(); });
}

TestServer::~TestServer() {
  std::vector<std::thread> workers;
  {
    const base::MutexLock lock(&mutex_);
    is_ended_ = true;
    ended_.NotifyAll();
    for (const int fd : open_) {
      shutdown(fd, SHUT_RDWR);
    }
  }
  shutdown(listener_, SHUT_RDWR);
  thread_.join();
  close(listener_);
  {
    const base::MutexLock lock(&mutex_);
    workers.swap(workers_);
  }
  for (std::thread& worker : workers) {
    worker.join();
  }
  SSL_CTX_free(context_);
}

std::vector<TestRequest> TestServer::requests() {
  const base::MutexLock lock(&mutex_);
  return requests_;
}

int TestServer::connections() {
  const base::MutexLock lock(&mutex_);
  return connections_;
}

bool TestServer::WaitUntil(base::SteadyTime time) {
  const base::MutexLock lock(&mutex_);
  while (!is_ended_ && base::SteadyTime::Now() < time) {
    ended_.WaitUntil(&mutex_, time);
  }
  return !is_ended_;
}

void TestServer::Accept() {
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      return;
    }
    const base::MutexLock lock(&mutex_);
    if (is_ended_) {
      close(fd);
      return;
    }
    open_.insert(fd);
    workers_.emplace_back([this, fd, number = ++connections_] { Serve(fd, number); });
  }
}

void TestServer::Serve(int fd, int number) {
  SSL* ssl = nullptr;
  bool is_good = true;
  if (context_ != nullptr) {
    ssl = SSL_new(context_);
    SSL_set_fd(ssl, fd);
    is_good = SSL_accept(ssl) == 1;
  }
  TestConnection connection(this, fd, ssl);
  if (is_good) {
    Converse(&connection, number);
  }
  SSL_free(ssl);
  const base::MutexLock lock(&mutex_);
  open_.erase(fd);
  close(fd);
}

void TestServer::Converse(TestConnection* connection, int number) {
  std::string bytes;
  for (;;) {
    std::optional<TestRequest> request = ReceiveRequest(connection, &bytes);
    if (!request.has_value()) {
      return;
    }
    request->connection = number;
    {
      const base::MutexLock lock(&mutex_);
      requests_.push_back(*request);
    }
    if (!Answer(connection, handler_(*request))) {
      return;
    }
  }
}

// The next request, `bytes` being what was read beyond the last one.
std::optional<TestRequest> TestServer::ReceiveRequest(TestConnection* connection,
                                                      std::string* bytes) {
  char buffer[4096];
  const auto fill = [&] {
    const long n = connection->Receive(buffer, sizeof(buffer));
    if (n > 0) bytes->append(buffer, static_cast<size_t>(n));
    return n > 0;
  };
  while (bytes->find("\r\n\r\n") == std::string::npos) {
    if (!fill()) return std::nullopt;
    if (bytes->starts_with('\x16')) {  // A TLS hello.
      connection->Send("HTTP/1.0 400 Bad Request\r\n\r\nthis is not https\n");
      return std::nullopt;
    }
  }
  const size_t head_end = bytes->find("\r\n\r\n");
  TestRequest request;
  size_t line_end = bytes->find("\r\n");
  const std::string first = bytes->substr(0, line_end);
  request.method = first.substr(0, first.find(' '));
  request.target = first.substr(request.method.size() + 1);
  request.target = request.target.substr(0, request.target.find(' '));
  while (line_end < head_end) {
    const size_t begin = line_end + 2;
    line_end = bytes->find("\r\n", begin);
    const std::string line = bytes->substr(begin, line_end - begin);
    std::string name = line.substr(0, line.find(':'));
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(tolower(c)); });
    request.headers[name] = line.substr(line.find(':') + 2);
  }
  const std::string length_field = request.header("content-length");
  const size_t length = length_field.empty() ? 0 : std::stoul(length_field);
  while (bytes->size() < head_end + 4 + length) {
    if (!fill()) return std::nullopt;
  }
  request.body = bytes->substr(head_end + 4, length);
  bytes->erase(0, head_end + 4 + length);
  return request;
}

bool TestServer::Answer(TestConnection* connection, const TestResponse& response) {
  if (response.instead != nullptr) {
    response.instead(*connection);
    return false;
  }
  const std::string_view whole = response.body;
  const std::string_view body =
      response.cut_after < 0 ? whole : whole.substr(0, static_cast<size_t>(response.cut_after));
  const size_t length =
      response.content_length >= 0 ? static_cast<size_t>(response.content_length) : whole.size();
  std::string head = base::StrCat("HTTP/1.1 ", response.status, " X\r\n");
  head += response.is_chunked ? "Transfer-Encoding: chunked\r\n"
                              : base::StrCat("Content-Length: ", length, "\r\n");
  for (const std::string& header : response.headers) {
    head += header + "\r\n";
  }
  head += "\r\n";
  if (response.is_chunked) {
    head += base::StrCat(absl::Hex(whole.size()), whole.empty() ? "" : "\r\n");
  }
  bool is_sent = connection->Send(head);
  if (is_sent) {
    is_sent = response.bytes_per_second > 0
                  ? connection->SendSlowly(body, response.bytes_per_second)
                  : connection->Send(body);
  }
  if (response.is_reset) {
    connection->Reset();
  }
  if (!is_sent || body.size() != whole.size() || response.is_reset) {
    return false;
  }
  if (response.is_chunked) {
    return connection->Send(whole.empty() ? "\r\n\r\n" : "\r\n0\r\n\r\n");
  }
  return length == whole.size();
}

std::optional<TestResponse> ServeLayout(const TestLayout& layout, const TestLayout::Blob& root,
                                        const TestRequest& request) {
  const std::string path = request.path();
  std::string digest = path.substr(path.rfind('/') + 1);
  const bool is_manifest = path.starts_with("/v2/app/manifests/");
  if (!is_manifest && !path.starts_with("/v2/app/blobs/")) {
    return std::nullopt;
  }
  if (is_manifest && digest == "1") {
    digest = root.digest;
  }
  const auto found = layout.blobs().find(digest);
  if (found == layout.blobs().end()) {
    return std::nullopt;
  }
  if (is_manifest) {
    return TestResponse{
        .headers = {"Content-Type: application/json", "Docker-Content-Digest: " + digest},
        .body = found->second};
  }
  return InRange(request, found->second);
}

TestResponse InRange(const TestRequest& request, const std::string& whole) {
  const auto range = Range(request.header("range"), whole.size());
  if (!range.has_value()) {
    return {.body = whole};
  }
  const auto& [first, last] = *range;
  if (first >= whole.size()) {
    return {.status = 416};
  }
  return {.status = 206,
          .headers = {base::StrCat("Content-Range: bytes ", first, "-", last, "/", whole.size())},
          .body = whole.substr(first, last - first + 1)};
}

}  // namespace imageservice::worker
