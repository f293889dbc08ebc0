// Who we are to one endpoint: anonymous, Basic or Bearer (RFC 7235, Docker token authentication).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/registry/attempts.h"
#include "imageservice/worker/registry/challenge.h"
#include "imageservice/worker/registry/http.h"

namespace imageservice::worker {

// Finds the Authorization header of one endpoint. Thread-safe; one call at a time asks a token
// server.
class Authenticator {
 public:
  // Learns of every token fetched, to keep it for later pulls.
  using TokenSink = std::function<void(const std::string& token, absl::Time expires_at)>;

  // `client` and `endpoint` must outlive this.
  Authenticator(HttpClient* client, const Endpoint* endpoint, HttpPatience patience,
                TokenSink sink);

  // The header line to send now, "Authorization: …"; empty: none (yet).
  std::string Header();

  enum class Outcome {
    kRenewed,  // By this call: a further refusal is final.
    kShared,   // Another thread did meanwhile.
  };
  // Does what the challenges of a 401 ask for, `rejected` being the header that was sent: Bearer
  // before Basic. UNAUTHENTICATED when nothing can be done.
  absl::StatusOr<Outcome> Answer(const std::vector<std::string>& www_authenticate,
                                 const std::string& rejected, Persistence persistence);

  // `text` without any of this endpoint's secrets: servers may send back what they were sent.
  std::string Redact(std::string text);

 private:
  absl::Status FetchToken(const Challenge& challenge, Persistence persistence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::string> AskTokenServer(const Challenge& challenge, Persistence persistence);
  absl::StatusOr<HttpRequest> RequestTo(const std::string& realm) const;
  bool HasPassword() const;

  HttpClient* const client_;
  const Endpoint* const endpoint_;
  const HttpPatience patience_;
  const TokenSink sink_;

  base::Mutex mutex_;
  std::string header_ ABSL_GUARDED_BY(mutex_);
  absl::Time expires_at_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();

  base::Mutex secrets_mutex_;
  std::vector<std::string> secrets_ ABSL_GUARDED_BY(secrets_mutex_);
};

// The settings of an endpoint in the form the HTTP client wants.
TlsSettings TlsOf(const Endpoint& endpoint);

}  // namespace imageservice::worker
