// HTTP for the worker: blocking requests with streamed answers, over one libcurl multi handle. The
// only place that knows libcurl.
#pragma once

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

struct HttpRequest {
  std::string url;                   // http:// or https://.
  std::vector<std::string> headers;  // "Name: value".
  std::optional<std::string> form;   // POSTed as application/x-www-form-urlencoded.
  TlsSettings tls;
  HttpUse use = HttpUse::kDocument;
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

 private:
  std::shared_ptr<Transfer> transfer_;
  int status_ = 0;
};

// Owns the connections and the thread that drives them. Redirects are not followed. Thread-safe.
class HttpClient {
 public:
  static absl::StatusOr<std::unique_ptr<HttpClient>> Create();
  // Ends all transfers. Responses may outlive the client; reading them fails then.
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Sends `request` and waits for the header of the answer. UNAVAILABLE with libcurl's words when
  // there is none: no connection within 30 s, a bad certificate, nothing received for 60 s.
  absl::StatusOr<HttpResponse> Send(const HttpRequest& request);

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

// --- URLs
// -----------------------------------------------------------------------------------------

// Scheme, host and port as one text, for comparing; INVALID_ARGUMENT for anything but http and
// https.
absl::StatusOr<std::string> UrlOrigin(const std::string& url);

// Where `location` leads when `base` answered it; a user name and password in it are dropped.
absl::StatusOr<std::string> ResolveUrl(const std::string& base, const std::string& location);

// The URL without user, query and fragment, where secrets may be: for messages.
std::string PrintableUrl(std::string_view url);

// Percent-encodes what may not stand in a query.
std::string QueryEscape(std::string_view text);

}  // namespace imageservice::worker
