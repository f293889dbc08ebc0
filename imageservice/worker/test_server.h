// For tests: a small HTTP server that misbehaves as told.
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "imageservice/worker/test_certificates.h"
#include "imageservice/worker/test_registry.h"

namespace imageservice::worker {

// One request as the server saw it; header names in lower case.
struct TestRequest {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;
  std::string body;
  int connection = 0;  // Which of the server's, from 1 on.

  // A header's value, empty if there is none.
  std::string header(const std::string& name) const;
  // The target without its query.
  std::string path() const { return target.substr(0, target.find('?')); }
};

class TestServer;

// What a handler may do to a client below HTTP.
class TestConnection {
 public:
  // False when the peer, or the server, is gone.
  bool Send(std::string_view bytes);
  // Sends with so many bytes a second.
  bool SendSlowly(std::string_view bytes, int64_t bytes_per_second);
  // Says nothing more until the server ends.
  void Hang();
  // Passes bytes in both directions between the client and a port of 127.0.0.1, until one ends.
  void JoinTo(int port);
  // The connection's end is an RST.
  void Reset();

 private:
  friend class TestServer;
  TestConnection(TestServer* server, int fd, SSL* ssl) : server_(server), fd_(fd), ssl_(ssl) {}
  long Receive(char* buffer, size_t size);

  TestServer* const server_;
  const int fd_;
  SSL* const ssl_;
};

struct TestResponse {
  int status = 200;
  std::vector<std::string> headers = {};  // "Name: value".
  std::string body = "";
  int64_t content_length = -1;                             // -1: the truth.
  bool is_chunked = false;                                 // No length at all.
  int64_t cut_after = -1;                                  // Bytes of the body that are sent.
  bool is_reset = false;                                   // After that, an RST.
  int64_t bytes_per_second = 0;                            // Of the body; 0: as fast as it goes.
  std::function<void(TestConnection&)> instead = nullptr;  // Says everything itself.
};

// Serves HTTP/1.1 on a port of 127.0.0.1, with connections that are kept, in threads.
class TestServer {
 public:
  using Handler = std::function<TestResponse(const TestRequest&)>;
  // How it speaks TLS.
  struct Tls {
    TestCertificate certificate;
    int min_version = 0;  // As TLS1_VERSION; 0: OpenSSL's own limits.
    int max_version = 0;
    std::string client_authority;  // PEM; not empty: clients have to show a certificate of it.
  };

  explicit TestServer(Handler handler, std::optional<Tls> tls = std::nullopt);
  ~TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string url() const { return (context_ == nullptr ? "http://" : "https://") + host(); }
  int port() const { return port_; }
  std::vector<TestRequest> requests();
  // How many there were.
  int connections();

  // Waits until the server ends, or the time; false when it ended.
  bool WaitUntil(base::SteadyTime time);

 private:
  void Accept();
  void Serve(int fd, int number);
  void Converse(TestConnection* connection, int number);
  std::optional<TestRequest> ReceiveRequest(TestConnection* connection, std::string* bytes);
  // Whether the connection is good for another request.
  bool Answer(TestConnection* connection, const TestResponse& response);

  const Handler handler_;
  SSL_CTX* context_ = nullptr;
  int listener_ = -1;
  int port_ = 0;
  std::thread thread_;
  base::Mutex mutex_;
  base::CondVar ended_;
  bool is_ended_ ABSL_GUARDED_BY(mutex_) = false;
  int connections_ ABSL_GUARDED_BY(mutex_) = 0;
  std::set<int> open_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> workers_ ABSL_GUARDED_BY(mutex_);
  std::vector<TestRequest> requests_ ABSL_GUARDED_BY(mutex_);
};

// Answers manifests and blobs of a layout's repository "app" as a registry would, also in ranges;
// nullopt for anything else.
std::optional<TestResponse> ServeLayout(const TestLayout& layout, const TestLayout::Blob& root,
                                        const TestRequest& request);

// The part of `whole` that a request asks for.
TestResponse InRange(const TestRequest& request, const std::string& whole);

}  // namespace imageservice::worker
