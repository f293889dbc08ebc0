// A large blob through several connections at once, in order: consecutive windows of it are asked
// for by range and wait in memory for their turn.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "imageservice/worker/registry/http.h"

namespace imageservice::worker {

// How many windows all blobs of a worker may have at once: 32 MiB. Thread-safe.
class RangeBudget {
 public:
  // Takes up to `wanted` windows; how many they are.
  int Take(int wanted);
  void Give(int windows) { left_ += windows; }

 private:
  std::atomic<int> left_ = 8;
};

// The bytes of a blob from `begin` to `end`. One thread at a time.
class BlobRanges {
 public:
  static constexpr uint64_t kWindowBytes = 4 << 20;

  // `request` is one the server answered with the blob; it is repeated as it is, without redirects
  // and authentication. Up to `windows`, taken from `budget`, which gets them back at the end.
  BlobRanges(HttpClient* http, RangeBudget* budget, HttpRequest request, uint64_t begin,
             uint64_t end, uint64_t size, int windows);
  ~BlobRanges();
  BlobRanges(const BlobRanges&) = delete;
  BlobRanges& operator=(const BlobRanges&) = delete;

  // Waits for the answer about the first window: UNAVAILABLE unless it is the range asked for.
  absl::Status Probe();

  // As HttpResponse::Read.
  absl::StatusOr<bool> Read(std::string* chunk);

 private:
  struct Window {
    uint64_t begin = 0;
    uint64_t end = 0;
    PendingResponse pending;
    std::optional<HttpResponse> response;
  };

  absl::Status StartWindows(int count);
  absl::Status Open(Window* window) const;

  HttpClient* const http_;
  RangeBudget* const budget_;
  HttpRequest request_;
  uint64_t next_;  // Where the next window begins.
  const uint64_t end_;
  const uint64_t size_;
  const int max_windows_;
  std::deque<Window> windows_;  // In the order of their bytes.
};

}  // namespace imageservice::worker
