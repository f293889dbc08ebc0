#include "imageservice/worker/registry/blob_reader.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr uint64_t kProgressBytes = 1 << 20;  // That much and a source counts as working.
constexpr absl::Duration kLongSinceBreak = absl::Seconds(60);
constexpr int kMaxVainBreaks = 3;  // In a row, of the only source.
// When several transfers are begun: that much is left, and the reader waited for most of a second.
constexpr uint64_t kWorthRanges = 32 << 20;
constexpr absl::Duration kSecond = absl::Seconds(1);
constexpr double kMostOfIt = 0.6;

}  // namespace

BlobReader::BlobReader(RegistryClient* client, RangeBudget* budget, std::string digest,
                       uint64_t size, Options options)
    : client_(client),
      budget_(budget),
      digest_(std::move(digest)),
      size_(size),
      options_(std::move(options)),
      may_spread_(options_.max_ranges > 1) {
  for (const BlobSource& source : options_.sources) {
    sources_.push_back({source, absl::OkStatus(), false});
  }
}

absl::StatusOr<bool> BlobReader::Read(std::string* chunk) {
  for (;;) {
    if (!stream_.has_value() && ranges_ == nullptr) {
      if (offset_ == size_ && !contributors_.empty()) {
        return false;
      }
      RETURN_IF_ERROR(Open());
    }
    const absl::StatusOr<bool> has_more = ReadFromNetwork(chunk);
    if (has_more.ok() && *has_more) {
      RETURN_IF_ERROR(Account(chunk));
      if (!chunk->empty()) {
        Spread();
        return true;
      }
    } else if (offset_ == size_ && skip_ == 0) {
      Close();  // Whatever became of the transfer: everything is here.
      return false;
    } else {
      const bool has_stalled = stream_.has_value() && stream_->response.has_stalled();
      HandleBreak(has_more.ok() ? absl::UnavailableError(base::StrCat(
                                      "the answer ended after ", offset_, " of ", size_, " bytes"))
                                : has_more.status(),
                  has_stalled);
    }
  }
}

absl::StatusOr<bool> BlobReader::ReadFromNetwork(std::string* chunk) {
  const base::SteadyTime begin = base::SteadyTime::Now();
  absl::StatusOr<bool> has_more =
      ranges_ != nullptr ? ranges_->Read(chunk) : stream_->response.Read(chunk);
  waited_ += base::SteadyTime::Now() - begin;
  return has_more;
}

// Takes what has arrived into account, and off it what the caller already has.
absl::Status BlobReader::Account(std::string* chunk) {
  if (skip_ > 0) {
    const uint64_t known = std::min<uint64_t>(skip_, chunk->size());
    chunk->erase(0, known);
    skip_ -= known;
  }
  if (chunk->empty()) {
    return absl::OkStatus();
  }
  const BlobSource& source = sources_[current_].where;
  if (std::ranges::find(contributors_, source) == contributors_.end()) {
    contributors_.push_back(source);
  }
  if (chunk->size() > size_ - offset_) {
    return absl::DataLossError(
        base::StrCat("the blob is longer than the ", size_, " bytes of the manifest"));
  }
  offset_ += chunk->size();
  bytes_since_break_ += chunk->size();
  if (bytes_since_break_ >= kProgressBytes) {
    // Time has passed since the others failed.
    for (Source& other : sources_) {
      if (absl::IsUnavailable(other.failure)) {
        other.failure = absl::OkStatus();
      }
    }
  }
  return absl::OkStatus();
}

// --- one source after the other
// -------------------------------------------------------------------

// Opens the stream from the present source or the next ones that will.
absl::Status BlobReader::Open() {
  for (;;) {
    Source& source = sources_[current_];
    source.is_needless = !client_->MayAsk(source.where.endpoint);
    if (source.failure.ok() && !source.is_needless) {
      const base::SteadyTime begin = base::SteadyTime::Now();
      source.failure = OpenAt(&source, HasOthers() ? Persistence::kBrief : Persistence::kFull);
      waited_ += base::SteadyTime::Now() - begin;
      if (source.failure.ok()) {
        return absl::OkStatus();
      }
    }
    RETURN_IF_ERROR(MoveOn());
  }
}

absl::Status BlobReader::OpenAt(Source* source, Persistence persistence) {
  ASSIGN_OR_RETURN(stream_, client_->OpenBlob(source->where, digest_, size_, offset_, persistence));
  skip_ = stream_->begins_late ? 0 : offset_;
  is_patchwork_ |= offset_ > 0;
  second_began_ = base::SteadyTime::Now();
  waited_before_second_ = waited_;
  return absl::OkStatus();
}

// Makes the next source the present one, if need be after a wait for better times.
absl::Status BlobReader::MoveOn() {
  vain_breaks_ = 0;
  bytes_since_break_ = 0;
  for (size_t step = 1; step <= sources_.size(); ++step) {
    const size_t next = (current_ + step) % sources_.size();
    if (sources_[next].failure.ok() && !sources_[next].is_needless) {
      current_ = next;
      return absl::OkStatus();
    }
  }
  EndpointFailures failures;
  for (const Source& source : sources_) {
    if (!source.is_needless) {
      failures.Add(client_->Name(source.where), source.failure);
    }
  }
  if (failures.empty()) {
    return absl::FailedPreconditionError("no endpoint may be asked for content");
  }
  if (!failures.MayPass() || !options_.wait_to_go_on) {
    return failures.Combined();
  }
  RETURN_IF_ERROR(options_.wait_to_go_on(failures.AsUnavailable()));
  for (Source& source : sources_) {
    source.failure = absl::OkStatus();
  }
  current_ = 0;
  return absl::OkStatus();
}

// Decides whether a transfer that broke is resumed at the same source.
void BlobReader::HandleBreak(const absl::Status& why, bool has_stalled) {
  Close();
  const bool has_others = HasOthers();
  const bool is_long_ago = base::SteadyTime::Now() - broke_at_ >= kLongSinceBreak;
  if (bytes_since_break_ >= kProgressBytes || (is_long_ago && bytes_since_break_ > 0)) {
    vain_breaks_ = 0;
  }
  const int limit = has_others ? 1 : kMaxVainBreaks;
  if (absl::IsUnavailable(why) && vain_breaks_ < limit && !(has_stalled && has_others)) {
    if (vain_breaks_ > 0) {
      absl::SleepFor(RetryDelay(vain_breaks_, "", absl::Now()));
    }
    ++vain_breaks_;
    bytes_since_break_ = 0;
    broke_at_ = base::SteadyTime::Now();
    return;
  }
  Source& source = sources_[current_];
  client_->NoteResult(source.where.endpoint, false);
  source.failure = why;
}

void BlobReader::Close() {
  stream_.reset();
  if (ranges_ != nullptr) {
    ranges_.reset();
    may_spread_ = false;  // They did not do well here; or everything is here.
  }
}

bool BlobReader::HasOthers() const {
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (i != current_ && sources_[i].failure.ok() && !sources_[i].is_needless) {
      return true;
    }
  }
  return false;
}

// --- several transfers
// ----------------------------------------------------------------------------

// Begins ranges if the last second shows that they are worth it and the server knows them.
void BlobReader::Spread() {
  if (!may_spread_ || ranges_ != nullptr || skip_ > 0) {
    return;
  }
  const base::SteadyTime now = base::SteadyTime::Now();
  const absl::Duration second = now - second_began_;
  if (second < kSecond) {
    return;
  }
  const bool is_slow = waited_ - waited_before_second_ >= second * kMostOfIt;
  second_began_ = now;
  waited_before_second_ = waited_;
  if (!is_slow || size_ - offset_ < kWorthRanges) {
    return;
  }
  const int windows = budget_->Take(options_.max_ranges);
  auto ranges = std::make_unique<BlobRanges>(client_->http(), budget_, stream_->request, offset_,
                                             size_, size_, windows);
  if (windows < 2) {
    return;  // Others have them; perhaps later.
  }
  if (!ranges->Probe().ok()) {
    may_spread_ = false;
    return;
  }
  ranges_ = std::move(ranges);
  stream_.reset();
  is_patchwork_ = true;
}

}  // namespace imageservice::worker
