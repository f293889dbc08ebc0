#include "imageservice/worker/registry/auth.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr size_t kMaxTokenAnswer = 1 << 20;

std::string BasicHeader(const Credentials& credentials) {
  return base::StrCat(
      "Authorization: Basic ",
      absl::Base64Escape(base::StrCat(credentials.username, ":", credentials.password)));
}

std::string BearerHeader(const std::string& token) {
  return base::StrCat("Authorization: Bearer ", token);
}

std::string Param(const Challenge& challenge, const std::string& name) {
  const auto found = challenge.params.find(name);
  return found == challenge.params.end() ? "" : found->second;
}

}  // namespace

TlsSettings TlsOf(const Endpoint& endpoint) {
  return {endpoint.insecure, endpoint.ca_pem, endpoint.client_certificate_pem,
          endpoint.client_key_pem};
}

Authenticator::Authenticator(HttpClient* client, const Endpoint* endpoint, TokenSink sink)
    : client_(client), endpoint_(endpoint), sink_(std::move(sink)) {
  const std::string& token = endpoint_->credentials.registry_token.empty()
                                 ? endpoint_->bearer_token
                                 : endpoint_->credentials.registry_token;
  if (IsHeaderToken(token)) {
    header_ = BearerHeader(token);
  }
}

bool Authenticator::HasPassword() const { return !endpoint_->credentials.username.empty(); }

std::string Authenticator::Header() {
  const base::MutexLock lock(&mutex_);
  if (absl::Now() >= expires_at_) {
    header_.clear();
    expires_at_ = absl::InfiniteFuture();
  }
  return header_;
}

absl::StatusOr<Authenticator::Outcome> Authenticator::Answer(
    const std::vector<std::string>& www_authenticate, const std::string& rejected) {
  const base::MutexLock lock(&mutex_);
  if (header_ != rejected && !header_.empty()) {
    return Outcome::kShared;
  }
  if (!endpoint_->credentials.registry_token.empty()) {
    return absl::UnauthenticatedError("the registry token was refused");
  }
  const Challenge* bearer = nullptr;
  const Challenge* basic = nullptr;
  std::vector<Challenge> challenges;
  for (const std::string& header : www_authenticate) {
    std::ranges::move(ParseChallenges(header), std::back_inserter(challenges));
  }
  for (const Challenge& challenge : challenges) {
    if (challenge.scheme == "bearer" && !Param(challenge, "realm").empty()) {
      bearer = &challenge;
    } else if (challenge.scheme == "basic") {
      basic = &challenge;
    }
  }
  if (bearer != nullptr) {
    RETURN_IF_ERROR(FetchToken(*bearer));
    return Outcome::kRenewed;
  }
  if (basic == nullptr) {
    return absl::UnauthenticatedError("the registry asks for neither Bearer nor Basic");
  }
  if (!HasPassword()) {
    return absl::UnauthenticatedError("the registry wants a user name and password");
  }
  if (rejected == BasicHeader(endpoint_->credentials)) {
    return absl::UnauthenticatedError("user name or password are wrong");
  }
  header_ = BasicHeader(endpoint_->credentials);
  return Outcome::kRenewed;
}

absl::Status Authenticator::FetchToken(const Challenge& challenge) {
  const absl::Time asked_at = absl::Now();
  ASSIGN_OR_RETURN(const std::string body, AskTokenServer(challenge));
  ASSIGN_OR_RETURN(const BearerToken answer, ParseTokenAnswer(body));
  // A token must not expire on its way.
  const int64_t margin = std::min<int64_t>(30, answer.lifetime_seconds / 4);
  header_ = BearerHeader(answer.token);
  expires_at_ = asked_at + absl::Seconds(answer.lifetime_seconds - margin);
  sink_(answer.token, expires_at_);
  return absl::OkStatus();
}

// The body of the token server's answer. The lock is held meanwhile: who else needs a token waits
// for this one.
absl::StatusOr<std::string> Authenticator::AskTokenServer(const Challenge& challenge) {
  const Credentials& credentials = endpoint_->credentials;
  const std::string realm = Param(challenge, "realm");
  std::string scope = Param(challenge, "scope");
  if (scope.empty()) {
    scope = base::StrCat("repository:", endpoint_->repository, ":pull");
  }
  ASSIGN_OR_RETURN(const std::string realm_origin, UrlOrigin(realm));
  ASSIGN_OR_RETURN(const std::string origin, UrlOrigin(endpoint_->base_url));
  if (realm_origin.starts_with("http:") && origin.starts_with("https:") && !endpoint_->insecure) {
    return absl::UnauthenticatedError(
        base::StrCat("the token server ", PrintableUrl(realm), " is not reached by https"));
  }
  const std::string service = QueryEscape(Param(challenge, "service"));
  HttpRequest request;
  request.tls = TlsOf(*endpoint_);
  if (realm_origin != origin) {
    request.tls.client_certificate_pem.clear();
    request.tls.client_key_pem.clear();
  }
  if (!credentials.identity_token.empty()) {
    request.url = realm;
    request.form = base::StrCat("grant_type=refresh_token&service=", service,
                                "&client_id=crisp&scope=", QueryEscape(scope),
                                "&refresh_token=", QueryEscape(credentials.identity_token));
  } else {
    request.url = base::StrCat(realm, realm.find('?') == std::string::npos ? "?" : "&",
                               "service=", service, "&scope=", QueryEscape(scope));
    if (HasPassword()) {
      request.url += base::StrCat("&account=", QueryEscape(credentials.username));
      request.headers.push_back(BasicHeader(credentials));
    }
  }
  const std::string what = base::StrCat("token server ", PrintableUrl(realm));
  absl::StatusOr<HttpResponse> response = client_->Send(request);
  if (!response.ok()) {
    return base::Annotate(response.status(), what);
  }
  if (response->status() == 429 || response->status() >= 500) {
    return absl::UnavailableError(base::StrCat(what, ": HTTP ", response->status()));
  }
  if (response->status() != 200) {
    return absl::UnauthenticatedError(base::StrCat(what, ": HTTP ", response->status()));
  }
  return response->ReadAll(kMaxTokenAnswer);
}

}  // namespace imageservice::worker
