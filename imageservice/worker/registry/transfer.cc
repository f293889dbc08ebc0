#include "imageservice/worker/registry/transfer.h"

#include "absl/strings/ascii.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr size_t kMaxHeaderBytes = 128 << 10;

absl::Status TransferStatus(CURLcode code, const char* error) {
  if (code == CURLE_OK) {
    return absl::OkStatus();
  }
  std::string message = error[0] != '\0' ? error : curl_easy_strerror(code);
  message = std::string(base::ToStd(absl::StripAsciiWhitespace(message)));
  switch (code) {
    case CURLE_URL_MALFORMAT:
      return absl::InvalidArgumentError(message);
    case CURLE_UNSUPPORTED_PROTOCOL:  // What answers speaks something else.
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
      // It answered, but not in a TLS we accept: asking again would not change that.
      return absl::FailedPreconditionError(message);
    default:
      return absl::UnavailableError(message);
  }
}

curl_blob Blob(const std::string& text) {
  return {const_cast<char*>(text.data()), text.size(), CURL_BLOB_COPY};
}

CURLcode SetTls(CURL* easy, const TlsSettings& tls) {
  CURLcode result = curl_easy_setopt(easy, CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_2});
  if (result == CURLE_OK) {
    result = curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, tls.insecure ? 0L : 1L);
  }
  if (result == CURLE_OK) {
    result = curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls.insecure ? 0L : 2L);
  }
  // The blob takes the place of the system's bundle, not of its folder of certificates.
  if (result == CURLE_OK && !tls.ca_pem.empty()) {
    curl_blob blob = Blob(tls.ca_pem);
    result = curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
  }
  if (result == CURLE_OK && !tls.client_certificate_pem.empty()) {
    curl_blob certificate = Blob(tls.client_certificate_pem);
    curl_blob key = Blob(tls.client_key_pem);
    result = curl_easy_setopt(easy, CURLOPT_SSLCERT_BLOB, &certificate);
    if (result == CURLE_OK) {
      result = curl_easy_setopt(easy, CURLOPT_SSLKEY_BLOB, &key);
    }
  }
  return result;
}

}  // namespace

Transfer::~Transfer() {
  curl_easy_cleanup(easy_);
  curl_slist_free_all(list_);
}

absl::Status Transfer::Prepare(const HttpRequest& request) {
  easy_ = curl_easy_init();
  if (easy_ == nullptr) {
    return absl::InternalError("curl_easy_init");
  }
  for (const std::string& header : request.headers) {
    list_ = curl_slist_append(list_, header.c_str());
  }
  url_ = request.url;
  buffer_bytes_ = request.buffer_bytes;
  CURLcode result = CURLE_OK;
  const auto set = [&](CURLoption option, auto value) {
    if (result == CURLE_OK) {
      result = curl_easy_setopt(easy_, option, value);
    }
  };
  set(CURLOPT_URL, url_.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTPHEADER, list_);
  set(CURLOPT_USERAGENT, "crisp");
  set(CURLOPT_ERRORBUFFER, error_);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_HTTP09_ALLOWED, 0L);
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(CURLOPT_HTTP_VERSION,
      request.use == HttpUse::kStream ? long{CURL_HTTP_VERSION_1_1} : long{CURL_HTTP_VERSION_2TLS});
  set(CURLOPT_HEADEROPT, long{CURLHEADER_SEPARATE});  // A proxy sees none of our headers.
  // libcurl leaves paused transfers out of this, and starts anew when they go on.
  set(CURLOPT_CONNECTTIMEOUT, long{request.patience.connect_timeout_seconds});
  set(CURLOPT_LOW_SPEED_LIMIT, static_cast<long>(request.patience.minimum_bytes_per_second));
  set(CURLOPT_LOW_SPEED_TIME, long{request.patience.stall_timeout_seconds});
  set(CURLOPT_BUFFERSIZE, long{128 << 10});
  set(CURLOPT_HEADERFUNCTION, &Transfer::OnHeader);
  set(CURLOPT_HEADERDATA, static_cast<void*>(this));
  set(CURLOPT_WRITEFUNCTION, &Transfer::OnBody);
  set(CURLOPT_WRITEDATA, static_cast<void*>(this));
  if (request.form.has_value()) {
    form_ = *request.form;
    set(CURLOPT_POSTFIELDSIZE, static_cast<long>(form_.size()));
    set(CURLOPT_POSTFIELDS, form_.c_str());
  }
  if (result == CURLE_OK) {
    result = SetTls(easy_, request.tls);
  }
  return result == CURLE_OK ? absl::OkStatus()
                            : absl::InternalError(base::StrCat("set the transfer up: ",
                                                               curl_easy_strerror(result)));
}

size_t Transfer::OnHeader(char* data, size_t size, size_t count, void* self) {
  const std::string_view line(data, size * count);
  return static_cast<Transfer*>(self)->AddHeaderLine(line) ? line.size() : 0;
}

bool Transfer::AddHeaderLine(std::string_view line) {
  const base::MutexLock lock(&mutex_);
  if (has_header_) {
    return !abandoned_;  // A trailer.
  }
  header_bytes_ += line.size();
  if (header_bytes_ > kMaxHeaderBytes) {
    has_endless_header_ = true;
    return false;
  }
  line = base::ToStd(absl::StripAsciiWhitespace(base::ToAbsl(line)));
  if (line.starts_with("HTTP/")) {
    headers_.clear();
  } else if (line.empty()) {
    long status = 0;
    curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200) {
      status_ = static_cast<int>(status);
      has_header_ = true;
      changed_.NotifyAll();
    }
  } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
    headers_.emplace_back(
        absl::AsciiStrToLower(base::ToAbsl(line.substr(0, colon))),
        std::string(base::ToStd(absl::StripAsciiWhitespace(base::ToAbsl(line.substr(colon + 1))))));
  }
  return !abandoned_;
}

size_t Transfer::OnBody(char* data, size_t size, size_t count, void* self) {
  auto* transfer = static_cast<Transfer*>(self);
  const base::MutexLock lock(&transfer->mutex_);
  if (transfer->abandoned_) {
    return 0;
  }
  if (transfer->buffer_.size() >= transfer->buffer_bytes_) {
    transfer->paused_ = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  transfer->buffer_.append(data, size * count);
  if (transfer->is_reader_waiting_) {
    transfer->is_reader_waiting_ = false;
    transfer->changed_.NotifyAll();
  }
  return size * count;
}

absl::StatusOr<int> Transfer::WaitForHeader() {
  const base::MutexLock lock(&mutex_);
  while (!has_header_ && !finished_) {
    changed_.Wait(&mutex_);
  }
  if (has_header_) {
    return status_;
  }
  return result_.ok() ? absl::UnavailableError("no answer") : result_;
}

absl::StatusOr<bool> Transfer::Read(std::string* chunk) {
  chunk->clear();
  const base::MutexLock lock(&mutex_);
  while (buffer_.empty() && !finished_) {
    is_reader_waiting_ = true;
    changed_.Wait(&mutex_);
  }
  if (buffer_.empty()) {
    RETURN_IF_ERROR(result_);
    return false;
  }
  buffer_.swap(*chunk);
  if (paused_ && client_ != nullptr) {
    client_->Wake();
  }
  return true;
}

bool Transfer::has_stalled() {
  const base::MutexLock lock(&mutex_);
  return has_stalled_;
}

void Transfer::Abandon() {
  const base::MutexLock lock(&mutex_);
  abandoned_ = true;
  if (client_ != nullptr && !finished_) {
    client_->Wake();
  }
}

bool Transfer::abandoned() {
  const base::MutexLock lock(&mutex_);
  return abandoned_;
}

bool Transfer::TakeResume() {
  const base::MutexLock lock(&mutex_);
  if (!paused_ || buffer_.size() >= buffer_bytes_) {
    return false;
  }
  paused_ = false;
  return true;
}

void Transfer::Complete(CURLcode code) {
  const base::MutexLock lock(&mutex_);
  result_ = has_endless_header_ ? absl::ResourceExhaustedError(base::StrCat(
                                      "the header is longer than ", kMaxHeaderBytes, " bytes"))
                                : TransferStatus(code, error_);
  has_stalled_ = code == CURLE_OPERATION_TIMEDOUT;
  finished_ = true;
  client_ = nullptr;
  changed_.NotifyAll();
}

void Transfer::Disconnect() {
  const base::MutexLock lock(&mutex_);
  client_ = nullptr;
  if (!finished_) {
    result_ = absl::CancelledError("the client is gone");
    finished_ = true;
  }
  changed_.NotifyAll();
}

}  // namespace imageservice::worker
