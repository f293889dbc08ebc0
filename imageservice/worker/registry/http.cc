#include "imageservice/worker/registry/http.h"

#include <curl/curl.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/registry/transfer.h"

namespace imageservice::worker {
namespace {

constexpr size_t kShortRest = 64 << 10;

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

void HttpResponse::Finish() {
  // Without a length a body may go on for ever: then a new connection is cheaper.
  const std::string length = header("content-length");
  size_t bytes = 0;
  if (absl::SimpleAtoi(length, &bytes) && bytes <= kShortRest) {
    ReadAll(kShortRest).status().IgnoreError();
  }
}

bool HttpResponse::has_stalled() const { return transfer_->has_stalled(); }

PendingResponse::PendingResponse(std::shared_ptr<Transfer> transfer)
    : transfer_(std::move(transfer)) {}

PendingResponse::PendingResponse(PendingResponse&&) noexcept = default;

PendingResponse::~PendingResponse() {
  if (transfer_ != nullptr) {
    transfer_->Abandon();
  }
}

absl::StatusOr<HttpResponse> PendingResponse::Wait() {
  RETURN_IF_ERROR(transfer_->WaitForHeader().status());
  return HttpResponse(std::move(transfer_));
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
  ASSIGN_OR_RETURN(PendingResponse pending, Start(request));
  return pending.Wait();
}

absl::StatusOr<PendingResponse> HttpClient::Start(const HttpRequest& request) {
  auto transfer = std::make_shared<Transfer>(this);
  RETURN_IF_ERROR(transfer->Prepare(request));
  {
    const base::MutexLock lock(&mutex_);
    added_.push_back(transfer);
  }
  Wake();
  return PendingResponse(std::move(transfer));
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

}  // namespace imageservice::worker
