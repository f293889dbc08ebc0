// One HTTP transfer between libcurl's thread and the thread that reads it.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "imageservice/worker/registry/http.h"

namespace imageservice::worker {

// Made by Send's caller, then driven by the client's thread; the reader sees it through
// HttpResponse.
class Transfer {
 public:
  explicit Transfer(HttpClient* client) : client_(client) {}
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Sets the easy handle up; before the client's thread sees it.
  absl::Status Prepare(const HttpRequest& request);
  CURL* easy() const { return easy_; }

  // --- the reader's side ---
  // Waits for the header; the status code.
  absl::StatusOr<int> WaitForHeader();
  const std::vector<std::pair<std::string, std::string>>& headers() const { return headers_; }
  absl::StatusOr<bool> Read(std::string* chunk);
  bool has_stalled();
  // Nobody reads any more.
  void Abandon();

  // --- the client's thread ---
  bool abandoned();
  // Whether the transfer was paused and has room again; it then counts as going on.
  bool TakeResume();
  void Complete(CURLcode result);
  // The client is gone.
  void Disconnect();

 private:
  static size_t OnHeader(char* data, size_t size, size_t count, void* self);
  static size_t OnBody(char* data, size_t size, size_t count, void* self);
  bool AddHeaderLine(std::string_view line);

  size_t buffer_bytes_ = 0;  // Of the request.
  CURL* easy_ = nullptr;
  curl_slist* list_ = nullptr;
  char error_[CURL_ERROR_SIZE] = {};
  std::string form_;
  std::string url_;

  base::Mutex mutex_;
  base::CondVar changed_;
  HttpClient* client_ ABSL_GUARDED_BY(mutex_);
  // Written by the client's thread until has_header_, constant then.
  std::vector<std::pair<std::string, std::string>> headers_;
  size_t header_bytes_ = 0;
  int status_ ABSL_GUARDED_BY(mutex_) = 0;
  bool has_header_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_stalled_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_endless_header_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_reader_waiting_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status result_ ABSL_GUARDED_BY(mutex_);
  std::string buffer_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageservice::worker
