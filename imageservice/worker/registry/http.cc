#include "imageservice/worker/registry/http.h"

#include <curl/curl.h>

#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/registry/transfer.h"

namespace imageservice::worker {
namespace {

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

// Part of a URL, empty when it has none.
std::string Part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) {
    return "";
  }
  std::string copy(text);
  curl_free(text);
  return copy;
}

absl::StatusOr<Url> ParseUrl(const std::string& text) {
  Url url(curl_url());
  if (url == nullptr || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return absl::InvalidArgumentError(base::StrCat("\"", PrintableUrl(text), "\" is no URL"));
  }
  return url;
}

}  // namespace

HttpResponse::HttpResponse(std::shared_ptr<Transfer> transfer) : transfer_(std::move(transfer)) {
  if (const absl::StatusOr<int> status = transfer_->WaitForHeader(); status.ok()) {
    status_ = *status;
  }
}

HttpResponse::HttpResponse(HttpResponse&&) noexcept = default;

HttpResponse& HttpResponse::operator=(HttpResponse&& other) noexcept {
  if (this != &other) {
    if (transfer_ != nullptr) {
      transfer_->Abandon();
    }
    transfer_ = std::move(other.transfer_);
    status_ = other.status_;
  }
  return *this;
}

HttpResponse::~HttpResponse() {
  if (transfer_ != nullptr) {
    transfer_->Abandon();
  }
}

std::vector<std::string> HttpResponse::headers(const std::string& name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : transfer_->headers()) {
    if (key == name) {
      values.push_back(value);
    }
  }
  return values;
}

std::string HttpResponse::header(const std::string& name) const {
  const std::vector<std::string> values = headers(name);
  return values.empty() ? "" : values.front();
}

absl::StatusOr<bool> HttpResponse::Read(std::string* chunk) { return transfer_->Read(chunk); }

absl::StatusOr<std::string> HttpResponse::ReadAll(size_t max_bytes) {
  std::string body;
  std::string chunk;
  for (;;) {
    ASSIGN_OR_RETURN(const bool has_more, Read(&chunk));
    if (!has_more) {
      return body;
    }
    if (body.size() + chunk.size() > max_bytes) {
      return absl::ResourceExhaustedError(
          base::StrCat("the answer is longer than ", max_bytes, " bytes"));
    }
    body += chunk;
  }
}

absl::StatusOr<std::unique_ptr<HttpClient>> HttpClient::Create() {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  CURLM* multi = initialised == CURLE_OK ? curl_multi_init() : nullptr;
  if (multi == nullptr) {
    return absl::InternalError("curl_multi_init");
  }
  auto client = std::unique_ptr<HttpClient>(new HttpClient(multi));
  client->thread_ = std::thread([raw = client.get()] { raw->Run(); });
  return client;
}

HttpClient::~HttpClient() {
  {
    const base::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
  for (const auto& [easy, transfer] : active_) {
    curl_multi_remove_handle(multi_, easy);
    transfer->Disconnect();
  }
  const base::MutexLock lock(&mutex_);
  for (const std::shared_ptr<Transfer>& transfer : added_) {
    transfer->Disconnect();
  }
  active_.clear();
  curl_multi_cleanup(multi_);
}

absl::StatusOr<HttpResponse> HttpClient::Send(const HttpRequest& request) {
  auto transfer = std::make_shared<Transfer>(this);
  RETURN_IF_ERROR(transfer->Prepare(request));
  {
    const base::MutexLock lock(&mutex_);
    added_.push_back(transfer);
  }
  Wake();
  RETURN_IF_ERROR(transfer->WaitForHeader().status());
  return HttpResponse(std::move(transfer));
}

void HttpClient::Wake() { curl_multi_wakeup(multi_); }

void HttpClient::Run() {
  for (;;) {
    {
      const base::MutexLock lock(&mutex_);
      if (stopping_) {
        return;
      }
      for (std::shared_ptr<Transfer>& transfer : added_) {
        curl_multi_add_handle(multi_, transfer->easy());
        active_[transfer->easy()] = std::move(transfer);
      }
      added_.clear();
    }
    Attend();
    int running = 0;
    curl_multi_perform(multi_, &running);
    Reap();
    curl_multi_poll(multi_, nullptr, 0, 1000, nullptr);
  }
}

// Resumes transfers that have room again and ends those nobody reads.
void HttpClient::Attend() {
  for (auto it = active_.begin(); it != active_.end();) {
    const std::shared_ptr<Transfer> transfer = it->second;
    if (transfer->abandoned()) {
      curl_multi_remove_handle(multi_, it->first);
      transfer->Disconnect();
      it = active_.erase(it);
      continue;
    }
    if (transfer->TakeResume()) {
      curl_easy_pause(it->first, CURLPAUSE_CONT);
    }
    ++it;
  }
}

// Takes the transfers that have ended out of libcurl's hands.
void HttpClient::Reap() {
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) {
      continue;
    }
    CURL* easy = message->easy_handle;
    const CURLcode result = message->data.result;
    const auto found = active_.find(easy);
    curl_multi_remove_handle(multi_, easy);
    if (found != active_.end()) {
      found->second->Complete(result);
      active_.erase(found);
    }
  }
}

absl::StatusOr<std::string> UrlOrigin(const std::string& text) {
  ASSIGN_OR_RETURN(const Url url, ParseUrl(text));
  const std::string scheme = Part(url.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") {
    return absl::InvalidArgumentError(
        base::StrCat("\"", PrintableUrl(text), "\" is neither http nor https"));
  }
  return base::StrCat(scheme, "://", Part(url.get(), CURLUPART_HOST), ":",
                      Part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT));
}

absl::StatusOr<std::string> ResolveUrl(const std::string& base_url, const std::string& location) {
  ASSIGN_OR_RETURN(const Url url, ParseUrl(base_url));
  // Setting a relative URL resolves it against the one that is there.
  if (curl_url_set(url.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) {
    return absl::InvalidArgumentError(base::StrCat("\"", PrintableUrl(location), "\" is no URL"));
  }
  curl_url_set(url.get(), CURLUPART_USER, nullptr, 0);
  curl_url_set(url.get(), CURLUPART_PASSWORD, nullptr, 0);
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  return Part(url.get(), CURLUPART_URL);
}

std::string PrintableUrl(std::string_view url) {
  url = url.substr(0, url.find_first_of("?#"));
  std::string printable;
  const size_t authority = url.find("://");
  if (authority != std::string_view::npos) {
    const size_t begin = authority + 3;
    const size_t end = std::min(url.find('/', begin), url.size());
    const size_t at = url.substr(0, end).rfind('@');
    printable = url.substr(0, begin);
    url.remove_prefix(at != std::string_view::npos && at >= begin ? at + 1 : begin);
  }
  printable += url.substr(0, 300);
  for (char& c : printable) {
    c = c >= 0x20 && c < 0x7f ? c : '?';
  }
  return printable;
}

std::string QueryEscape(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string escaped;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~';
    if (is_plain) {
      escaped += c;
    } else {
      escaped += '%';
      escaped += kHex[static_cast<unsigned char>(c) >> 4];
      escaped += kHex[static_cast<unsigned char>(c) & 15];
    }
  }
  return escaped;
}

}  // namespace imageservice::worker
