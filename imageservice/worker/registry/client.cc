#include "imageservice/worker/registry/client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"

namespace imageservice::worker {
namespace {

constexpr int kMaxAttempts = 4;  // When the server refuses for now.
constexpr int kMaxConnections =
    2;  // When there is no answer at all: another endpoint may be faster.
constexpr int kMaxRedirects = 10;
constexpr size_t kMaxErrorBody = 64 << 10;
constexpr char kManifestTypes[] =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json";

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool IsTemporary(int status) { return status == 429 || status >= 500; }

// Foreign text in our messages: short and printable.
std::string Quote(std::string_view text) {
  std::string quoted(text.substr(0, 200));
  std::ranges::replace_if(quoted, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return quoted;
}

// " (CODE: message)" of the registry's JSON, empty when it sent something else.
std::string RegistryWords(HttpResponse* response) {
  const absl::StatusOr<std::string> body = response->ReadAll(kMaxErrorBody);
  const absl::StatusOr<base::Json> json =
      body.ok() ? base::ParseJson(*body) : absl::StatusOr<base::Json>(body.status());
  if (!json.ok()) {
    return "";
  }
  const base::Json& errors = base::JsonMember(*json, "errors");
  if (!errors.is_array() || errors.empty()) {
    return "";
  }
  const absl::StatusOr<std::string> code = base::JsonString(errors[0], "code");
  const absl::StatusOr<std::string> message = base::JsonString(errors[0], "message");
  return base::StrCat(" (", code.ok() ? Quote(*code) : "", ": ",
                      message.ok() ? Quote(*message) : "", ")");
}

absl::Status HttpStatus(HttpResponse* response) {
  const int status = response->status();
  const std::string message = base::StrCat("HTTP ", status, RegistryWords(response));
  if (status == 401) return absl::UnauthenticatedError(message);
  if (status == 403) return absl::PermissionDeniedError(message);
  if (status == 404) return absl::NotFoundError(message);
  if (IsTemporary(status)) return absl::UnavailableError(message);
  return absl::UnknownError(message);
}

std::string MediaType(const HttpResponse& response) {
  const std::string type = response.header("content-type");
  return std::string(base::ToStd(
      absl::StripAsciiWhitespace(base::ToAbsl(std::string_view(type).substr(0, type.find(';'))))));
}

}  // namespace

absl::Duration RetryDelay(int attempt, std::string_view retry_after) {
  absl::Duration delay = absl::Milliseconds(500) * (1 << std::min(attempt - 1, 10));
  int64_t seconds = 0;
  if (absl::SimpleAtoi(base::ToAbsl(retry_after), &seconds) && seconds >= 0) {
    delay = absl::Seconds(seconds);
  }
  return std::min(delay, absl::Seconds(60));
}

RegistryClient::RegistryClient(HttpClient* http, const std::vector<Endpoint>* endpoints,
                               Events events)
    : http_(http), endpoints_(endpoints), events_(std::move(events)) {
  for (size_t i = 0; i < endpoints->size(); ++i) {
    const auto sink = [this, i](const std::string& token, absl::Time expires_at) {
      events_.token({static_cast<int>(i), token, absl::ToUnixSeconds(expires_at)});
    };
    authenticators_.push_back(std::make_unique<Authenticator>(http, &(*endpoints)[i], sink));
  }
}

absl::StatusOr<Document> RegistryClient::GetManifest(int endpoint, const std::string& reference) {
  const Endpoint& at = (*endpoints_)[static_cast<size_t>(endpoint)];
  const std::string path = base::StrCat("/", at.repository, "/manifests/", reference);
  ASSIGN_OR_RETURN(HttpResponse response, Get(endpoint, path, kManifestTypes, HttpUse::kDocument));
  Document document;
  document.media_type = MediaType(response);
  absl::StatusOr<std::string> body = response.ReadAll(kMaxManifestBytes);
  if (!body.ok()) {
    return base::Annotate(body.status(), base::StrCat("GET ", path));
  }
  document.body = *std::move(body);
  // A tag has no digest to hold the document to but the one the registry promises.
  const bool is_by_digest = CheckDigest(reference).ok();
  const std::string promised = response.header("docker-content-digest");
  const std::string& expected = is_by_digest ? reference : promised;
  if (!expected.empty()) {
    RETURN_IF_ERROR(base::Annotate(CheckDigest(expected), base::StrCat("GET ", path)));
    RETURN_IF_ERROR(
        base::Annotate(VerifyDigest(document.body, expected), base::StrCat("GET ", path)));
  }
  document.digest = expected.empty() ? base::StrCat("sha256:", Sha256Hex(document.body)) : expected;
  return document;
}

absl::StatusOr<std::string> RegistryClient::GetSmallBlob(int endpoint, const std::string& digest,
                                                         size_t max_bytes) {
  const Endpoint& at = (*endpoints_)[static_cast<size_t>(endpoint)];
  const std::string path = base::StrCat("/", at.repository, "/blobs/", digest);
  ASSIGN_OR_RETURN(HttpResponse response, Get(endpoint, path, "*/*", HttpUse::kDocument));
  absl::StatusOr<std::string> body = response.ReadAll(max_bytes);
  if (!body.ok()) {
    return base::Annotate(body.status(), base::StrCat("GET ", path));
  }
  RETURN_IF_ERROR(base::Annotate(VerifyDigest(*body, digest), base::StrCat("GET ", path)));
  return body;
}

absl::StatusOr<HttpResponse> RegistryClient::OpenBlob(int endpoint, const std::string& digest) {
  const Endpoint& at = (*endpoints_)[static_cast<size_t>(endpoint)];
  return Get(endpoint, base::StrCat("/", at.repository, "/blobs/", digest), "*/*",
             HttpUse::kStream);
}

// A 200 answer, however many attempts it takes.
absl::StatusOr<HttpResponse> RegistryClient::Get(int endpoint, const std::string& path,
                                                 const std::string& accept, HttpUse use) {
  const Endpoint& at = (*endpoints_)[static_cast<size_t>(endpoint)];
  const std::string what = base::StrCat("GET ", path);
  for (int attempt = 1;; ++attempt) {
    absl::StatusOr<HttpResponse> response =
        GetAuthorized(endpoint, base::StrCat(at.base_url, path), accept, use);
    if (response.ok() && response->status() == 200) {
      for (const std::string& warning : response->headers("warning")) {
        events_.warning(base::StrCat(at.base_url, ": ", Quote(warning)));
      }
      return response;
    }
    const absl::Status status = response.ok() ? HttpStatus(&*response) : response.status();
    const int limit = response.ok() ? kMaxAttempts : kMaxConnections;
    if (attempt >= limit || !absl::IsUnavailable(status)) {
      return base::Annotate(status, what);
    }
    absl::SleepFor(RetryDelay(attempt, response.ok() ? response->header("retry-after") : ""));
  }
}

// Deals with 401. The answer may have any other status.
absl::StatusOr<HttpResponse> RegistryClient::GetAuthorized(int endpoint, const std::string& url,
                                                           const std::string& accept, HttpUse use) {
  Authenticator& authenticator = *authenticators_[static_cast<size_t>(endpoint)];
  bool is_renewed = false;
  for (;;) {
    const std::string authorization = authenticator.Header();
    ASSIGN_OR_RETURN(HttpResponse response,
                     GetFollowing(endpoint, url, accept, use, authorization));
    if (response.status() != 401 || is_renewed) {
      return response;
    }
    ASSIGN_OR_RETURN(const Authenticator::Outcome outcome,
                     authenticator.Answer(response.headers("www-authenticate"), authorization));
    is_renewed = outcome == Authenticator::Outcome::kRenewed;
  }
}

// Follows redirects. What authenticates us is not sent to another origin.
absl::StatusOr<HttpResponse> RegistryClient::GetFollowing(int endpoint, const std::string& url,
                                                          const std::string& accept, HttpUse use,
                                                          const std::string& authorization) {
  const Endpoint& at = (*endpoints_)[static_cast<size_t>(endpoint)];
  HttpRequest request;
  request.url = url;
  request.use = use;
  request.tls = TlsOf(at);
  request.headers.push_back(base::StrCat("Accept: ", accept));
  if (!authorization.empty()) {
    request.headers.push_back(authorization);
  }
  ASSIGN_OR_RETURN(std::string origin, UrlOrigin(url));
  for (int redirects = 0;; ++redirects) {
    ASSIGN_OR_RETURN(HttpResponse response, http_->Send(request));
    const std::string location = response.header("location");
    if (!IsRedirect(response.status()) || location.empty()) {
      return response;
    }
    if (redirects >= kMaxRedirects) {
      return absl::UnknownError(base::StrCat("more than ", kMaxRedirects, " redirects"));
    }
    ASSIGN_OR_RETURN(request.url, ResolveUrl(request.url, location));
    ASSIGN_OR_RETURN(const std::string next, UrlOrigin(request.url));
    if (origin.starts_with("https:") && next.starts_with("http:") && !at.insecure) {
      return absl::UnknownError(
          base::StrCat("a redirect from https to ", PrintableUrl(request.url)));
    }
    if (next != origin) {
      std::erase_if(request.headers,
                    [](const std::string& line) { return line.starts_with("Authorization:"); });
      request.tls.client_certificate_pem.clear();
      request.tls.client_key_pem.clear();
    }
    origin = next;
  }
}

}  // namespace imageservice::worker
