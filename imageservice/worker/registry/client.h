// The pull side of the OCI distribution-spec: manifests and blobs of one image from its endpoints.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "imageservice/worker/content_source.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/registry/attempts.h"
#include "imageservice/worker/registry/auth.h"
#include "imageservice/worker/registry/http.h"

namespace imageservice::worker {

// Where a blob may come from: an endpoint, or a URL its manifest names (a foreign layer).
struct BlobSource {
  static constexpr int kForeign = -1;

  int endpoint = kForeign;
  std::string url;  // With kForeign.

  bool operator==(const BlobSource&) const = default;
};

// A blob's body that has begun to arrive.
struct BlobStream {
  HttpResponse response;
  HttpRequest request;       // As it was answered at last, to ask for more in the same place.
  bool begins_late = false;  // From the offset asked for, not from the beginning.
};

// Speaks to the endpoints of one pull. Thread-safe. Refusals with 429 and 5xx and broken
// connections are repeated as `persistence` says. Errors name request and cause, hold no secrets,
// and have the codes UNAUTHENTICATED (401), PERMISSION_DENIED (403), NOT_FOUND (404), UNAVAILABLE
// (429, 5xx, no connection), FAILED_PRECONDITION (no TLS), DATA_LOSS (other bytes than promised),
// RESOURCE_EXHAUSTED (an answer without end), UNKNOWN (any other answer).
class RegistryClient {
 public:
  struct Events {
    std::function<void(const Token&)> token;          // A new bearer token.
    std::function<void(const std::string&)> warning;  // A Warning header.
  };

  // All must outlive this.
  RegistryClient(HttpClient* http, const std::vector<Endpoint>* endpoints, const Limits* limits,
                 Events events);

  // --- which endpoint ---
  // Those that may be asked what a tag means, and those that may be asked for content, in the order
  // to ask them in: as configured, but those that have failed in this pull last. The http endpoint
  // of a host that answers by https is left out.
  std::vector<int> ResolvingEndpoints();
  std::vector<int> ContentEndpoints();
  // Whether the endpoint is still one of them.
  bool MayAsk(int endpoint);
  // Notes that what seemed to go well did not, or does again. A foreign URL is let pass here too.
  void NoteResult(int endpoint, bool is_good);
  // For messages.
  std::string Name(int endpoint) const;
  std::string Name(const BlobSource& source) const;

  // --- content ---
  // The manifest or index `reference`, a tag or a digest. The body's digest equals `reference`, or
  // what the endpoint says in Docker-Content-Digest (which it may leave out for a tag).
  absl::StatusOr<Document> GetManifest(int endpoint, const std::string& reference,
                                       Persistence persistence);

  // A blob of at most `max_bytes`, verified.
  absl::StatusOr<std::string> GetSmallBlob(int endpoint, const std::string& digest,
                                           size_t max_bytes, Persistence persistence);

  // A blob of `size` bytes, from `offset` on if the source can do that; to be verified by the
  // caller as it is read. The answer's own word about size and place agrees, or it is DATA_LOSS. A
  // URL does not learn who we are, and is asked by https only, unless an endpoint of this pull does
  // without.
  absl::StatusOr<BlobStream> OpenBlob(const BlobSource& source, const std::string& digest,
                                      uint64_t size, uint64_t offset, Persistence persistence);

  HttpClient* http() const { return http_; }

 private:
  // What is asked for.
  struct Query {
    int endpoint = BlobSource::kForeign;
    std::string path;  // For messages.
    std::string url;
    std::string accept;
    HttpUse use = HttpUse::kDocument;
    uint64_t size = 0;  // Of a blob.
    uint64_t offset = 0;
    size_t max_body = 0;  // Not 0: the body is read, too.
    Persistence persistence = Persistence::kFull;
  };
  struct Reply {
    HttpResponse response;
    HttpRequest request;
    std::string body;
    bool is_elsewhere = false;  // It came from another origin than the endpoint's.
  };
  // What is known of an endpoint by now.
  struct Health {
    bool has_answered = false;  // With any status.
    bool has_failed = false;    // Later than it succeeded.
  };

  Query QueryFor(int endpoint, const std::string& path) const;
  absl::StatusOr<Reply> Get(const Query& query);
  absl::StatusOr<Reply> GetAuthorized(const Query& query);
  absl::StatusOr<Reply> GetFollowing(const Query& query, const std::string& authorization);
  absl::StatusOr<Query> QueryFor(const BlobSource& source, const std::string& digest) const;
  HttpRequest RequestFor(const Query& query, const std::string& authorization) const;
  absl::Status CheckAnswer(Reply* reply, const Query& query);
  absl::Status NoteContact(int endpoint, const absl::Status& status);
  std::string Redact(const Query& query, std::string text);
  std::vector<int> Order(bool Endpoint::* ability);
  bool IsNeedless(size_t endpoint) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  const Endpoint& At(int endpoint) const { return (*endpoints_)[static_cast<size_t>(endpoint)]; }

  HttpClient* const http_;
  const std::vector<Endpoint>* const endpoints_;
  const HttpPatience patience_;  // But for the connect timeout, which is each endpoint's own.
  const Events events_;
  std::vector<std::unique_ptr<Authenticator>> authenticators_;

  base::Mutex mutex_;
  std::vector<Health> health_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageservice::worker
