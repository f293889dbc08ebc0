// HTTP for the worker: blocking requests with streamed answers, over one libcurl multi handle. The
// only place that knows libcurl.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace imageservice::worker {

// How to talk TLS to one endpoint, as in protocol.h's Endpoint.
struct TlsSettings {
  bool insecure = false;
  std::string ca_pem;
  std::string client_certificate_pem;
  std::string client_key_pem;
};

// Small documents share one HTTP/2 connection; a layer gets a connection of its own, because the
// flow control of TCP bounds memory where HTTP/2's window of many megabytes does not.
enum class HttpUse { kDocument, kStream };

// When a transfer counts as dead. There is no limit on the whole: a large blob takes its time.
struct HttpPatience {
  int connect_timeout_seconds = 30;
  // Fewer bytes per second than this, on average, for so long. Time in which the reader had no room
  // for more does not count.
  uint64_t minimum_bytes_per_second = 1024;
  int stall_timeout_seconds = 30;
};

struct HttpRequest {
  std::string url;                   // http:// or https://.
  std::vector<std::string> headers;  // "Name: value".
  std::optional<std::string> form;   // POSTed as application/x-www-form-urlencoded.
  TlsSettings tls;
  HttpUse use = HttpUse::kDocument;
  HttpPatience patience;
  size_t buffer_bytes = 512 << 10;  // How much of the body may wait for its reader.
};

class Transfer;

// An answer whose header has arrived. Dropping it ends the transfer. One thread at a time.
class HttpResponse {
 public:
  explicit HttpResponse(std::shared_ptr<Transfer> transfer);
  HttpResponse(HttpResponse&&) noexcept;
  HttpResponse& operator=(HttpResponse&&) noexcept;
  ~HttpResponse();

  int status() const { return status_; }
  // All values of a header, named in lower case.
  std::vector<std::string> headers(const std::string& name) const;
  // The first of them; empty if there is none.
  std::string header(const std::string& name) const;

  // Waits for more of the body and swaps it into `chunk`, whose old content is dropped (its memory
  // is used again). False at the body's end. UNAVAILABLE when the transfer broke.
  absl::StatusOr<bool> Read(std::string* chunk);
  // The rest of the body; RESOURCE_EXHAUSTED when it is longer than `max_bytes`.
  absl::StatusOr<std::string> ReadAll(size_t max_bytes);
  // Reads and drops a short rest, so that the connection can serve the next request.
  void Finish();
  // After Read's error: whether the bytes only came too slowly.
  bool has_stalled() const;

 private:
  std::shared_ptr<Transfer> transfer_;
  int status_ = 0;
};

// A request that is on its way. Dropping it ends the transfer. One thread at a time.
class PendingResponse {
 public:
  explicit PendingResponse(std::shared_ptr<Transfer> transfer);
  PendingResponse(PendingResponse&&) noexcept;
  PendingResponse& operator=(PendingResponse&&) = delete;
  ~PendingResponse();

  // Waits for the header of the answer, once. Errors as HttpClient::Send.
  absl::StatusOr<HttpResponse> Wait();

 private:
  std::shared_ptr<Transfer> transfer_;
};

// Owns the connections and the thread that drives them. Redirects are not followed. Thread-safe.
class HttpClient {
 public:
  static absl::StatusOr<std::unique_ptr<HttpClient>> Create();
  // Ends all transfers. Responses may outlive the client; reading them fails then.
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Sends `request` and waits for the header of the answer. Errors have libcurl's words.
  // UNAVAILABLE: no connection, or it broke or stalled. FAILED_PRECONDITION: there is no TLS with
  // that server (versions before 1.2 are not spoken) or its certificate is not trusted.
  // RESOURCE_EXHAUSTED: a header without end.
  absl::StatusOr<HttpResponse> Send(const HttpRequest& request);

  // Sends `request` without waiting.
  absl::StatusOr<PendingResponse> Start(const HttpRequest& request);

 private:
  friend class Transfer;
  explicit HttpClient(void* multi) : multi_(multi) {}
  void Run();
  void Reap();
  void Attend();
  void Wake();

  void* const multi_;  // CURLM.
  std::thread thread_;
  std::map<void*, std::shared_ptr<Transfer>> active_;  // By CURL*; of the thread.

  base::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::shared_ptr<Transfer>> added_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageservice::worker
