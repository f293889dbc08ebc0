#include "imageservice/worker/registry/auth.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/registry/url.h"

namespace imageservice::worker {
namespace {

constexpr size_t kMaxTokenAnswer = 1 << 20;
constexpr size_t kShortestSecret = 3;  // Shorter ones would blot out words.

std::string BasicHeader(const Credentials& credentials) {
  return base::StrCat(
      "Authorization: Basic ",
      absl::Base64Escape(base::StrCat(credentials.username, ":", credentials.password)));
}

std::string BearerHeader(const std::string& token) {
  return base::StrCat("Authorization: Bearer ", token);
}

bool IsAuthorization(const std::string& line) {
  return absl::StartsWithIgnoreCase(line, "authorization:");
}

// The body of a 200, `http_status` being that of the last answer. UNAUTHENTICATED for any other
// answer that will not change by itself.
absl::StatusOr<std::string> SendTo(HttpClient* client, const HttpRequest& request,
                                   Persistence persistence, int* http_status = nullptr) {
  Attempts attempts(persistence);
  for (;;) {
    absl::Status status;
    std::string retry_after;
    absl::StatusOr<HttpResponse> response = client->Send(request);
    if (!response.ok()) {
      status = response.status();
    } else if (response->status() == 200) {
      absl::StatusOr<std::string> body = response->ReadAll(kMaxTokenAnswer);
      if (body.ok()) {
        return body;
      }
      status = body.status();
    } else {
      retry_after = response->header("retry-after");
      status = absl::UnauthenticatedError(base::StrCat("HTTP ", response->status()));
      if (response->status() == 429 || response->status() >= 500) {
        status = absl::UnavailableError(status.message());
      }
      response->Finish();
    }
    if (http_status != nullptr) {
      *http_status = response.ok() ? response->status() : 0;
    }
    if (!attempts.WaitForNext(status, response.ok(), retry_after)) {
      return absl::IsResourceExhausted(status) ? absl::UnauthenticatedError(status.message())
                                               : status;
    }
  }
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

Authenticator::Authenticator(HttpClient* client, const Endpoint* endpoint, HttpPatience patience,
                             TokenSink sink)
    : client_(client), endpoint_(endpoint), patience_(patience), sink_(std::move(sink)) {
  const Credentials& credentials = endpoint_->credentials;
  const std::string& token =
      credentials.registry_token.empty() ? endpoint_->bearer_token : credentials.registry_token;
  if (IsHeaderToken(token)) {
    header_ = BearerHeader(token);
  }
  secrets_ = {credentials.password, credentials.identity_token, credentials.registry_token,
              endpoint_->bearer_token,
              absl::Base64Escape(base::StrCat(credentials.username, ":", credentials.password))};
  for (const std::string& line : endpoint_->headers) {
    secrets_.emplace_back(base::ToStd(absl::StripAsciiWhitespace(
        base::ToAbsl(std::string_view(line)).substr(std::min(line.size(), line.find(':') + 1)))));
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

std::string Authenticator::Redact(std::string text) {
  const base::MutexLock lock(&secrets_mutex_);
  for (const std::string& secret : secrets_) {
    if (secret.size() >= kShortestSecret) {
      text = absl::StrReplaceAll(text, {{secret, "***"}});
    }
  }
  return text;
}

absl::StatusOr<Authenticator::Outcome> Authenticator::Answer(
    const std::vector<std::string>& www_authenticate, const std::string& rejected,
    Persistence persistence) {
  const base::MutexLock lock(&mutex_);
  if (header_ != rejected && !header_.empty()) {
    return Outcome::kShared;
  }
  if (!endpoint_->credentials.registry_token.empty()) {
    return absl::UnauthenticatedError("the registry token was refused");
  }
  std::vector<Challenge> challenges;
  for (const std::string& header : www_authenticate) {
    std::ranges::move(ParseChallenges(header), std::back_inserter(challenges));
  }
  const auto find = [&](std::string_view scheme, bool needs_realm) {
    return std::ranges::find_if(challenges, [&](const Challenge& challenge) {
      return challenge.scheme == scheme && (!needs_realm || !Param(challenge, "realm").empty());
    });
  };
  if (const auto bearer = find("bearer", true); bearer != challenges.end()) {
    RETURN_IF_ERROR(FetchToken(*bearer, persistence));
    return Outcome::kRenewed;
  }
  if (find("basic", false) == challenges.end()) {
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

absl::Status Authenticator::FetchToken(const Challenge& challenge, Persistence persistence) {
  const absl::Time asked_at = absl::Now();
  const std::string what = base::StrCat("token server ", PrintableUrl(Param(challenge, "realm")));
  absl::StatusOr<std::string> body = AskTokenServer(challenge, persistence);
  if (!body.ok()) {
    return base::Annotate(body.status(), what);
  }
  const absl::StatusOr<BearerToken> answer = ParseTokenAnswer(*body);
  if (!answer.ok()) {
    return absl::UnauthenticatedError(
        base::StrCat(what, ": ", base::ToStd(answer.status().message())));
  }
  // It may be an older token. Clocks that differ by more than its life say nothing.
  absl::Duration lifetime = absl::Seconds(answer->lifetime_seconds);
  const absl::Duration age = asked_at - answer->issued_at.value_or(asked_at);
  if (age > absl::ZeroDuration() && age < lifetime) {
    lifetime -= age;
  }
  header_ = BearerHeader(answer->token);
  expires_at_ = asked_at + lifetime - std::min(absl::Seconds(30), lifetime / 4);  // For its way.
  {
    const base::MutexLock lock(&secrets_mutex_);
    secrets_.push_back(answer->token);
  }
  sink_(answer->token, expires_at_);
  return absl::OkStatus();
}

absl::StatusOr<HttpRequest> Authenticator::RequestTo(const std::string& realm) const {
  ASSIGN_OR_RETURN(const std::string realm_origin, UrlOrigin(realm));
  ASSIGN_OR_RETURN(const std::string origin, UrlOrigin(endpoint_->base_url));
  if (realm_origin.starts_with("http:") && origin.starts_with("https:") && !endpoint_->insecure) {
    return absl::UnauthenticatedError("it is not reached by https");
  }
  HttpRequest request;
  request.url = realm;
  request.patience = patience_;
  request.tls = TlsOf(*endpoint_);
  if (realm_origin == origin) {
    request.headers = endpoint_->headers;
    std::erase_if(request.headers, [](const std::string& line) { return IsAuthorization(line); });
  } else {
    request.tls.client_certificate_pem.clear();
    request.tls.client_key_pem.clear();
  }
  return request;
}

// The body of the token server's answer. The lock is held meanwhile: who else needs a token waits
// for this one.
absl::StatusOr<std::string> Authenticator::AskTokenServer(const Challenge& challenge,
                                                          Persistence persistence) {
  const Credentials& credentials = endpoint_->credentials;
  const std::string realm = Param(challenge, "realm");
  std::string scope = Param(challenge, "scope");
  if (scope.empty()) {
    scope = base::StrCat("repository:", endpoint_->repository, ":pull");
  }
  const std::string service = QueryEscape(Param(challenge, "service"));
  ASSIGN_OR_RETURN(const HttpRequest plain, RequestTo(realm));
  HttpRequest get = plain;
  get.url += base::StrCat(realm.find('?') == std::string::npos ? "?" : "&", "service=", service,
                          "&scope=", QueryEscape(scope));
  if (credentials.identity_token.empty()) {
    if (HasPassword()) {
      get.url += base::StrCat("&account=", QueryEscape(credentials.username));
      get.headers.push_back(BasicHeader(credentials));
    }
    return SendTo(client_, get, persistence);
  }
  HttpRequest post = plain;
  post.form = base::StrCat("grant_type=refresh_token&service=", service,
                           "&client_id=crisp&scope=", QueryEscape(scope),
                           "&refresh_token=", QueryEscape(credentials.identity_token));
  int http_status = 0;
  const absl::StatusOr<std::string> answer = SendTo(client_, post, persistence, &http_status);
  // Servers that know no OAuth take a refresh token in the place of a password.
  const bool knows_no_post =
      http_status == 404 || http_status == 405 || http_status == 401 || http_status == 400;
  if (answer.ok() || !knows_no_post) {
    return answer;
  }
  const std::string user = HasPassword() ? credentials.username : "<token>";
  get.headers.push_back(BasicHeader({user, credentials.identity_token, "", ""}));
  return SendTo(client_, get, persistence);
}

}  // namespace imageservice::worker
