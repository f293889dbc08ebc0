#include "imageservice/worker/registry/client.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/registry/response_fields.h"
#include "imageservice/worker/registry/url.h"

namespace imageservice::worker {
namespace {

constexpr int kForeign = BlobSource::kForeign;
constexpr int kMaxRedirects = 10;
constexpr size_t kMaxErrorBody = 64 << 10;
constexpr char kManifestTypes[] =
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json";

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// "https://host/v2" without its scheme.
std::string_view WithoutScheme(std::string_view url) {
  const size_t colon = url.find("://");
  return colon == std::string_view::npos ? url : url.substr(colon + 3);
}

// "Name" of "Name: value", in lower case.
std::string FieldName(std::string_view line) {
  return absl::AsciiStrToLower(base::ToAbsl(line.substr(0, line.find(':'))));
}

// Adds the configured field, in the place of one that is there. One that could break out of its
// line is left out.
void SetField(std::vector<std::string>* fields, const std::string& line) {
  const bool is_clean =
      std::ranges::all_of(line, [](unsigned char c) { return c >= 0x20 || c == '\t'; });
  if (!is_clean || line.find(':') == std::string::npos) {
    return;
  }
  const std::string name = FieldName(line);
  std::erase_if(*fields, [&](const std::string& other) { return FieldName(other) == name; });
  fields->push_back(line);
}

bool IsTemporary(int status) { return status == 429 || status >= 500; }

// Foreign text in our messages: short and printable. What is secret in it has to be out of it
// before, since what is left of a secret that was cut cannot be found any more.
std::string Quote(std::string_view text) {
  std::string quoted(text.substr(0, 200));
  std::ranges::replace_if(quoted, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return quoted;
}

using Redactor = std::function<std::string(std::string)>;

// " (CODE: message)" of the registry's JSON, empty when it sent something else.
std::string RegistryWords(HttpResponse* response, const Redactor& redact) {
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
  return base::StrCat(" (", code.ok() ? Quote(redact(*code)) : "", ": ",
                      message.ok() ? Quote(redact(*message)) : "", ")");
}

// `is_elsewhere`: not at the endpoint, and so somebody whose words are not for our users.
absl::Status HttpStatus(HttpResponse* response, bool is_elsewhere, const Redactor& redact) {
  const int status = response->status();
  const std::string message =
      base::StrCat("HTTP ", status, is_elsewhere ? "" : RegistryWords(response, redact));
  if (status == 416) return absl::DataLossError(message);  // The blob there is shorter than it is.
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

RegistryClient::RegistryClient(HttpClient* http, const std::vector<Endpoint>* endpoints,
                               const Limits* limits, Events events)
    : http_(http),
      endpoints_(endpoints),
      patience_({.minimum_bytes_per_second = limits->minimum_bytes_per_second,
                 .stall_timeout_seconds = limits->stall_timeout_seconds}),
      events_(std::move(events)),
      health_(endpoints->size()) {
  for (size_t i = 0; i < endpoints->size(); ++i) {
    const auto sink = [this, i](const std::string& token, absl::Time expires_at) {
      events_.token({static_cast<int>(i), token, absl::ToUnixSeconds(expires_at)});
    };
    HttpPatience patience = patience_;
    patience.connect_timeout_seconds = (*endpoints)[i].connect_timeout_seconds;
    authenticators_.push_back(
        std::make_unique<Authenticator>(http, &(*endpoints)[i], patience, sink));
  }
}

// --- which endpoint
// -------------------------------------------------------------------------------

std::vector<int> RegistryClient::ResolvingEndpoints() { return Order(&Endpoint::can_resolve); }

std::vector<int> RegistryClient::ContentEndpoints() { return Order(&Endpoint::can_pull); }

bool RegistryClient::MayAsk(int endpoint) {
  const base::MutexLock lock(&mutex_);
  return endpoint == kForeign || !IsNeedless(static_cast<size_t>(endpoint));
}

std::string RegistryClient::Name(int endpoint) const { return PrintableUrl(At(endpoint).base_url); }

std::string RegistryClient::Name(const BlobSource& source) const {
  return source.endpoint == kForeign ? PrintableUrl(source.url) : Name(source.endpoint);
}

std::vector<int> RegistryClient::Order(bool Endpoint::* ability) {
  const base::MutexLock lock(&mutex_);
  std::vector<int> order;
  for (const bool has_failed : {false, true}) {
    for (size_t i = 0; i < endpoints_->size(); ++i) {
      if ((*endpoints_)[i].*ability && health_[i].has_failed == has_failed && !IsNeedless(i)) {
        order.push_back(static_cast<int>(i));
      }
    }
  }
  return order;
}

// An insecure registry is given by https and by http, since nobody said which it speaks.
bool RegistryClient::IsNeedless(size_t endpoint) const {
  const Endpoint& at = (*endpoints_)[endpoint];
  if (!at.base_url.starts_with("http:")) {
    return false;
  }
  for (size_t i = 0; i < endpoints_->size(); ++i) {
    const Endpoint& other = (*endpoints_)[i];
    if (other.base_url.starts_with("https:") && health_[i].has_answered &&
        WithoutScheme(other.base_url) == WithoutScheme(at.base_url) &&
        other.repository == at.repository) {
      return true;
    }
  }
  return false;
}

// --- content
// --------------------------------------------------------------------------------------

RegistryClient::Query RegistryClient::QueryFor(int endpoint, const std::string& path) const {
  const Endpoint& at = At(endpoint);
  Query query;
  query.endpoint = endpoint;
  query.path = base::StrCat("/", at.repository, path);
  query.url = at.base_url + query.path;
  if (!at.registry_namespace.empty()) {
    query.url += base::StrCat("?ns=", QueryEscape(at.registry_namespace));
  }
  return query;
}

absl::StatusOr<Document> RegistryClient::GetManifest(int endpoint, const std::string& reference,
                                                     Persistence persistence) {
  Query query = QueryFor(endpoint, "/manifests/" + reference);
  query.accept = kManifestTypes;
  query.max_body = kMaxManifestBytes;
  query.persistence = persistence;
  ASSIGN_OR_RETURN(Reply reply, Get(query));
  Document document;
  document.media_type = MediaType(reply.response);
  document.body = std::move(reply.body);
  // A tag has no digest to hold the document to but the one the registry promises.
  const bool is_by_digest = CheckDigest(reference).ok();
  const std::string promised = reply.response.header("docker-content-digest");
  const std::string& expected = is_by_digest ? reference : promised;
  if (!expected.empty()) {
    const std::string what = base::StrCat("GET ", query.path);
    RETURN_IF_ERROR(base::Annotate(CheckDigest(expected), what));
    RETURN_IF_ERROR(base::Annotate(VerifyDigest(document.body, expected), what));
  }
  document.digest = expected.empty() ? base::StrCat("sha256:", Sha256Hex(document.body)) : expected;
  return document;
}

absl::StatusOr<std::string> RegistryClient::GetSmallBlob(int endpoint, const std::string& digest,
                                                         size_t max_bytes,
                                                         Persistence persistence) {
  Query query = QueryFor(endpoint, "/blobs/" + digest);
  query.accept = "*/*";
  query.max_body = max_bytes;
  query.persistence = persistence;
  ASSIGN_OR_RETURN(Reply reply, Get(query));
  RETURN_IF_ERROR(
      base::Annotate(VerifyDigest(reply.body, digest), base::StrCat("GET ", query.path)));
  return std::move(reply.body);
}

absl::StatusOr<RegistryClient::Query> RegistryClient::QueryFor(const BlobSource& source,
                                                               const std::string& digest) const {
  if (source.endpoint != kForeign) {
    return QueryFor(source.endpoint, "/blobs/" + digest);
  }
  ASSIGN_OR_RETURN(const std::string origin, UrlOrigin(source.url));
  const bool may_be_plain = std::ranges::any_of(*endpoints_, [](const Endpoint& endpoint) {
    return endpoint.insecure || endpoint.base_url.starts_with("http:");
  });
  if (origin.starts_with("http:") && !may_be_plain) {
    return absl::FailedPreconditionError("it is not reached by https");
  }
  Query query;
  query.path = PrintableUrl(source.url);
  query.url = source.url;
  return query;
}

absl::StatusOr<BlobStream> RegistryClient::OpenBlob(const BlobSource& source,
                                                    const std::string& digest, uint64_t size,
                                                    uint64_t offset, Persistence persistence) {
  ASSIGN_OR_RETURN(Query query, QueryFor(source, digest));
  query.accept = "*/*";
  query.use = HttpUse::kStream;
  query.size = size;
  query.offset = offset;
  query.persistence = persistence;
  ASSIGN_OR_RETURN(Reply reply, Get(query));
  const bool begins_late = reply.response.status() == 206;
  return BlobStream{std::move(reply.response), std::move(reply.request), begins_late};
}

// A good answer, however many attempts it takes.
absl::StatusOr<RegistryClient::Reply> RegistryClient::Get(const Query& query) {
  Attempts attempts(query.persistence);
  for (;;) {
    absl::StatusOr<Reply> reply = GetAuthorized(query);
    absl::Status status = reply.status();
    std::string retry_after;
    const bool has_answered = reply.ok();
    if (has_answered) {
      HttpResponse& response = reply->response;
      retry_after = response.header("retry-after");
      status = CheckAnswer(&*reply, query);
      if (status.ok() && query.max_body > 0) {
        absl::StatusOr<std::string> body = response.ReadAll(query.max_body);
        status = body.status();
        reply->body = std::move(body).value_or("");
      }
    }
    NoteResult(query.endpoint, status.ok());
    if (status.ok()) {
      for (const std::string& warning : reply->response.headers("warning")) {
        events_.warning(base::StrCat(PrintableUrl(query.url), ": ", Quote(Redact(query, warning))));
      }
      return reply;
    }
    if (!attempts.WaitForNext(status, has_answered, retry_after)) {
      const std::string message =
          base::StrCat("GET ", query.path, ": ", base::ToStd(status.message()));
      return absl::Status(status.code(), Redact(query, message));
    }
  }
}

// Whether this is the whole of a document, or a blob of `size` bytes from `offset` or from its
// beginning on.
absl::Status RegistryClient::CheckAnswer(Reply* reply, const Query& query) {
  const HttpResponse& response = reply->response;
  const uint64_t size = query.size;
  const uint64_t offset = query.offset;
  if (response.status() == 206 && offset > 0) {
    const std::string field = response.header("content-range");
    const std::optional<ContentRange> range = ParseContentRange(field);
    if (!range.has_value() || range->first != offset || range->size.value_or(size) != size) {
      return absl::DataLossError(base::StrCat("bytes from ", offset, " of ", size,
                                              " were asked for, the answer has \"", Quote(field),
                                              "\""));
    }
    return absl::OkStatus();
  }
  if (response.status() != 200) {
    return HttpStatus(&reply->response, reply->is_elsewhere,
                      [&](std::string text) { return Redact(query, std::move(text)); });
  }
  uint64_t length = 0;
  if (size > 0 && absl::SimpleAtoi(response.header("content-length"), &length) && length != size) {
    return absl::DataLossError(base::StrCat("the blob has ", length, " bytes instead of ", size));
  }
  return absl::OkStatus();
}

void RegistryClient::NoteResult(int endpoint, bool is_good) {
  if (endpoint != kForeign) {
    const base::MutexLock lock(&mutex_);
    health_[static_cast<size_t>(endpoint)].has_failed = !is_good;
  }
}

// Notes whether there was an answer at all; the status to act on.
absl::Status RegistryClient::NoteContact(int endpoint, const absl::Status& status) {
  if (endpoint == kForeign) {
    return status;
  }
  const base::MutexLock lock(&mutex_);
  Health& health = health_[static_cast<size_t>(endpoint)];
  if (health.has_answered && absl::IsFailedPrecondition(status)) {
    // It does speak TLS with us; a restart in the middle of a handshake looks like this too.
    return absl::UnavailableError(status.message());
  }
  health.has_answered |= status.ok();
  return status;
}

std::string RegistryClient::Redact(const Query& query, std::string text) {
  return query.endpoint == kForeign
             ? text
             : authenticators_[static_cast<size_t>(query.endpoint)]->Redact(std::move(text));
}

// Deals with 401. The answer may have any other status.
absl::StatusOr<RegistryClient::Reply> RegistryClient::GetAuthorized(const Query& query) {
  if (query.endpoint == kForeign) {
    return GetFollowing(query, "");
  }
  Authenticator& authenticator = *authenticators_[static_cast<size_t>(query.endpoint)];
  bool is_renewed = false;
  for (;;) {
    const std::string authorization = authenticator.Header();
    ASSIGN_OR_RETURN(Reply reply, GetFollowing(query, authorization));
    // Only the endpoint itself may ask who we are: its credentials are nobody else's, to whom it
    // may have sent us.
    if (reply.response.status() != 401 || is_renewed || reply.is_elsewhere) {
      return reply;
    }
    reply.response.Finish();
    ASSIGN_OR_RETURN(const Authenticator::Outcome outcome,
                     authenticator.Answer(reply.response.headers("www-authenticate"), authorization,
                                          query.persistence));
    is_renewed = outcome == Authenticator::Outcome::kRenewed;
  }
}

HttpRequest RegistryClient::RequestFor(const Query& query, const std::string& authorization) const {
  HttpRequest request;
  request.url = query.url;
  request.use = query.use;
  request.patience = patience_;
  request.headers.push_back(base::StrCat("Accept: ", query.accept));
  if (query.endpoint != kForeign) {
    const Endpoint& at = At(query.endpoint);
    request.patience.connect_timeout_seconds = at.connect_timeout_seconds;
    request.tls = TlsOf(at);
    for (const std::string& line : at.headers) {
      SetField(&request.headers, line);
    }
  }
  if (query.offset > 0) {
    request.headers.push_back(base::StrCat("Range: bytes=", query.offset, "-"));
  }
  if (!authorization.empty()) {
    SetField(&request.headers, authorization);
  }
  return request;
}

// Follows redirects. What tells who we are is not sent to another origin.
absl::StatusOr<RegistryClient::Reply> RegistryClient::GetFollowing(
    const Query& query, const std::string& authorization) {
  const bool may_be_plain = query.endpoint != kForeign && At(query.endpoint).insecure;
  HttpRequest request = RequestFor(query, authorization);
  ASSIGN_OR_RETURN(std::string origin, UrlOrigin(request.url));
  bool is_elsewhere = query.endpoint == kForeign;
  for (int redirects = 0;; ++redirects) {
    absl::StatusOr<HttpResponse> response = http_->Send(request);
    const absl::Status status =
        redirects == 0 ? NoteContact(query.endpoint, response.status()) : response.status();
    if (!status.ok()) {
      return redirects == 0 ? status : base::Annotate(status, PrintableUrl(request.url));
    }
    const std::string location = response->header("location");
    if (!IsRedirect(response->status()) || location.empty()) {
      return Reply{*std::move(response), std::move(request), "", is_elsewhere};
    }
    response->Finish();
    if (redirects >= kMaxRedirects) {
      return absl::UnknownError(base::StrCat("more than ", kMaxRedirects, " redirects"));
    }
    ASSIGN_OR_RETURN(request.url, ResolveUrl(request.url, location));
    ASSIGN_OR_RETURN(const std::string next, UrlOrigin(request.url));
    if (origin.starts_with("https:") && next.starts_with("http:") && !may_be_plain) {
      return absl::UnknownError(
          base::StrCat("a redirect from https to ", PrintableUrl(request.url)));
    }
    if (next != origin) {
      is_elsewhere = true;
      std::erase_if(request.headers, [](const std::string& line) {
        const std::string name = FieldName(line);
        return name != "accept" && name != "range";
      });
      request.tls.client_certificate_pem.clear();
      request.tls.client_key_pem.clear();
    }
    origin = next;
  }
}

}  // namespace imageservice::worker
