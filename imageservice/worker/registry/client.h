// The pull side of the OCI distribution-spec: manifests and blobs of one image from its endpoints.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/registry/auth.h"
#include "imageservice/worker/registry/http.h"

namespace imageservice::worker {

// A manifest or index as an endpoint served it.
struct Document {
  std::string body;
  std::string media_type;  // Of Content-Type, without parameters; empty when missing.
  std::string digest;      // Of the body; verified.
};

// Speaks to the endpoints of one pull. Thread-safe. Refusals with 429 and 5xx and broken
// connections are repeated a few times. Errors name request and cause: UNAUTHENTICATED (401),
// PERMISSION_DENIED (403), NOT_FOUND (404), UNAVAILABLE (429, 5xx, no connection), DATA_LOSS (a
// wrong digest).
class RegistryClient {
 public:
  struct Events {
    std::function<void(const Token&)> token;          // A new bearer token.
    std::function<void(const std::string&)> warning;  // A Warning header.
  };

  // `http` and `endpoints` must outlive this.
  RegistryClient(HttpClient* http, const std::vector<Endpoint>* endpoints, Events events);

  // The manifest or index `reference`, a tag or a digest. The body's digest equals `reference`, or
  // what the endpoint says in Docker-Content-Digest (which it may leave out for a tag).
  absl::StatusOr<Document> GetManifest(int endpoint, const std::string& reference);

  // A blob of at most `max_bytes`, verified.
  absl::StatusOr<std::string> GetSmallBlob(int endpoint, const std::string& digest,
                                           size_t max_bytes);

  // A blob's body, to be verified by the caller as it is read.
  absl::StatusOr<HttpResponse> OpenBlob(int endpoint, const std::string& digest);

 private:
  absl::StatusOr<HttpResponse> Get(int endpoint, const std::string& path, const std::string& accept,
                                   HttpUse use);
  absl::StatusOr<HttpResponse> GetAuthorized(int endpoint, const std::string& url,
                                             const std::string& accept, HttpUse use);
  absl::StatusOr<HttpResponse> GetFollowing(int endpoint, const std::string& url,
                                            const std::string& accept, HttpUse use,
                                            const std::string& authorization);

  HttpClient* const http_;
  const std::vector<Endpoint>* const endpoints_;
  const Events events_;
  std::vector<std::unique_ptr<Authenticator>> authenticators_;
};

// How long to wait before attempt `attempt` (from 1 on): what the server says in Retry-After
// (seconds), else half a second doubling; at most 60 s.
absl::Duration RetryDelay(int attempt, std::string_view retry_after);

}  // namespace imageservice::worker
