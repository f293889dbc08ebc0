#include "imageservice/worker/registry/blob_ranges.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/registry/response_fields.h"

namespace imageservice::worker {

int RangeBudget::Take(int wanted) {
  int left = left_;
  int taken = 0;
  do {
    taken = std::clamp(left, 0, std::max(0, wanted));
  } while (!left_.compare_exchange_weak(left, left - taken));
  return taken;
}

BlobRanges::BlobRanges(HttpClient* http, RangeBudget* budget, HttpRequest request, uint64_t begin,
                       uint64_t end, uint64_t size, int windows)
    : http_(http),
      budget_(budget),
      request_(std::move(request)),
      next_(begin),
      end_(end),
      size_(size),
      max_windows_(windows) {
  // The whole window fits, so that a connection never waits for the others' turns to end.
  request_.buffer_bytes = kWindowBytes;
  std::erase_if(request_.headers,
                [](const std::string& line) { return line.starts_with("Range:"); });
}

BlobRanges::~BlobRanges() {
  windows_.clear();
  budget_->Give(max_windows_);
}

absl::Status BlobRanges::Probe() {
  RETURN_IF_ERROR(StartWindows(1));
  return Open(&windows_.front());
}

absl::StatusOr<bool> BlobRanges::Read(std::string* chunk) {
  for (;;) {
    RETURN_IF_ERROR(StartWindows(max_windows_));
    if (windows_.empty()) {
      chunk->clear();
      return false;
    }
    Window& window = windows_.front();
    if (!window.response.has_value()) {
      RETURN_IF_ERROR(Open(&window));
    }
    ASSIGN_OR_RETURN(const bool has_more, window.response->Read(chunk));
    if (has_more) {
      if (chunk->size() > window.end - window.begin) {
        return absl::UnavailableError("a range is longer than was asked for");
      }
      window.begin += chunk->size();
      return true;
    }
    if (window.begin != window.end) {
      return absl::UnavailableError("a range ended early");
    }
    windows_.pop_front();
  }
}

// Starts requests until there are `count`, or enough.
absl::Status BlobRanges::StartWindows(int count) {
  while (next_ < end_ && windows_.size() < static_cast<size_t>(count)) {
    const uint64_t end = std::min(end_, next_ + kWindowBytes);
    HttpRequest request = request_;
    request.headers.push_back(base::StrCat("Range: bytes=", next_, "-", end - 1));
    ASSIGN_OR_RETURN(PendingResponse pending, http_->Start(request));
    windows_.push_back({next_, end, std::move(pending), std::nullopt});
    next_ = end;
  }
  return absl::OkStatus();
}

absl::Status BlobRanges::Open(Window* window) const {
  ASSIGN_OR_RETURN(HttpResponse response, window->pending.Wait());
  const std::optional<ContentRange> range = ParseContentRange(response.header("content-range"));
  if (response.status() != 206 || !range.has_value() || range->first != window->begin ||
      range->last + 1 != window->end || range->size.value_or(size_) != size_) {
    return absl::UnavailableError(
        base::StrCat("a range was asked for, the answer is HTTP ", response.status()));
  }
  window->response.emplace(std::move(response));
  return absl::OkStatus();
}

}  // namespace imageservice::worker
