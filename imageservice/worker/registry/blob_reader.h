// The bytes of one blob, whatever happens to those who send them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "imageservice/worker/registry/blob_ranges.h"
#include "imageservice/worker/registry/client.h"
#include "imageservice/worker/registry/endpoint_failures.h"

namespace imageservice::worker {

// Streams a blob from the first of its sources that has it. A transfer that breaks is resumed where
// it broke, at the same source as long as that brings something (a MiB since the last break, or a
// minute has passed), else at the next; one that stalls goes on at the next at once. A source that
// is only slow, with much left to fetch, is asked for several ranges at a time.
//
// The bytes are those of no source in particular until the caller has found the digest right. One
// thread at a time.
class BlobReader {
 public:
  struct Options {
    std::vector<BlobSource> sources;  // In the order to ask them in; one at least.
    int max_ranges = 1;               // 1: never more than one transfer.
    // All sources have failed, one of them in a way that may pass. Called with all reasons, to wait
    // until they are to be tried again; its error is Read's. Empty: the reasons are Read's error.
    std::function<absl::Status(const absl::Status&)> wait_to_go_on;
  };

  // All must outlive this.
  BlobReader(RegistryClient* client, RangeBudget* budget, std::string digest, uint64_t size,
             Options options);

  // As HttpResponse::Read. No more than `size` bytes come, or DATA_LOSS. Errors name every source
  // and why it failed; codes are those of EndpointFailures.
  absl::StatusOr<bool> Read(std::string* chunk);

  // Which sources the bytes came from so far.
  const std::vector<BlobSource>& contributors() const { return contributors_; }
  // Whether they came through several transfers.
  bool is_patchwork() const { return is_patchwork_; }
  // How long Read has waited for the network.
  absl::Duration waited() const { return waited_; }

 private:
  struct Source {
    BlobSource where;
    absl::Status failure;      // OK: not asked, or something came from another one since.
    bool is_needless = false;  // See RegistryClient::MayAsk.
  };

  absl::StatusOr<bool> ReadFromNetwork(std::string* chunk);
  absl::Status Open();
  absl::Status OpenAt(Source* source, Persistence persistence);
  absl::Status MoveOn();
  void HandleBreak(const absl::Status& why, bool has_stalled);
  absl::Status Account(std::string* chunk);
  void Spread();
  void Close();
  bool HasOthers() const;

  RegistryClient* const client_;
  RangeBudget* const budget_;
  const std::string digest_;
  const uint64_t size_;
  const Options options_;

  std::vector<Source> sources_;
  size_t current_ = 0;
  std::optional<BlobStream> stream_;
  std::unique_ptr<BlobRanges> ranges_;  // Takes the place of the stream.
  uint64_t offset_ = 0;                 // What the caller has got.
  uint64_t skip_ = 0;                   // What of the stream it already has.

  // Of the present source.
  int vain_breaks_ = 0;  // In a row, with hardly anything in between.
  uint64_t bytes_since_break_ = 0;
  base::SteadyTime broke_at_ = base::SteadyTime::InfiniteFuture();

  // Whether ranges are worth it.
  bool may_spread_ = false;
  base::SteadyTime second_began_ = base::SteadyTime::InfinitePast();
  absl::Duration waited_before_second_;

  std::vector<BlobSource> contributors_;
  bool is_patchwork_ = false;
  absl::Duration waited_;
};

}  // namespace imageservice::worker
