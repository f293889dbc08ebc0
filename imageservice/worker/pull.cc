#include "imageservice/worker/pull.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);
// How long a layer that nobody has for now waits while other layers come in: then it tries again.
constexpr absl::Duration kFirstPause = absl::Seconds(5);
constexpr absl::Duration kLongestPause = absl::Seconds(60);
constexpr size_t kMaxStallsTold = 3;  // Of so many layers the reasons are sent.

void Add(const Stages& stages, Stages* sum) {
  sum->fetch += stages.fetch;
  sum->digest += stages.digest;
  sum->inflate += stages.inflate;
  sum->unpack += stages.unpack;
}

}  // namespace

absl::Status Pull::Send(const WorkerMessage& message) {
  return channel_.Send(base::Context(), Encode(message));
}

absl::StatusOr<Done> Pull::Run() {
  if (archive_ != nullptr) {
    ASSIGN_OR_RETURN(image_, ResolveFromArchive(archive_, request_));
  } else {
    RETURN_IF_ERROR(ResolveAtRegistry());
  }
  RETURN_IF_ERROR(AskAboutLayers());
  const auto limit = static_cast<size_t>(std::max(1, request_.limits.max_parallel_layers));
  for (size_t i = 0; i < std::min(image_.layers.size(), limit); ++i) {
    threads_.emplace_back([this] { FetchLayers(); });
  }
  RETURN_IF_ERROR(AwaitLayers());
  for (std::thread& thread : threads_) {
    thread.join();
  }
  const base::MutexLock lock(&mutex_);
  return Done{stages_};
}

absl::Status Pull::ResolveAtRegistry() {
  ASSIGN_OR_RETURN(http_, HttpClient::Create());
  // A message that cannot be sent means that the daemon is gone, which ends the worker anyway.
  const RegistryClient::Events events = {
      [this](const Token& token) { Send(token).IgnoreError(); },
      [this](const std::string& warning) { Send(Warning{warning}).IgnoreError(); }};
  client_ =
      std::make_unique<RegistryClient>(http_.get(), &request_.endpoints, &request_.limits, events);
  ASSIGN_OR_RETURN(image_, ResolveImage(client_.get(), request_));
  return absl::OkStatus();
}

absl::Status Pull::AskAboutLayers() {
  {
    const base::MutexLock lock(&mutex_);
    states_.assign(image_.layers.size(), State::kAsked);
    stalls_.resize(image_.layers.size());
    pauses_.resize(image_.layers.size());
  }
  RETURN_IF_ERROR(Send(image_.documents));
  for (const LayerQuestion& layer : image_.layers) {
    RETURN_IF_ERROR(Send(layer));
  }
  // They are large, and from now on the daemon's.
  image_.documents.manifest = std::string();
  image_.documents.config = std::string();
  return absl::OkStatus();
}

absl::Status Pull::Answer(const LayerAnswer& answer) {
  const base::MutexLock lock(&mutex_);
  const auto index = static_cast<size_t>(answer.index);
  if (index >= states_.size() ||
      (states_[index] != State::kAsked && states_[index] != State::kWaiting)) {
    return absl::InvalidArgumentError(
        base::StrCat("an answer about layer ", answer.index, ", which was not asked for"));
  }
  switch (answer.decision) {
    case LayerDecision::kHave:
      states_[index] = State::kSettled;
      break;
    case LayerDecision::kWait:
      states_[index] = State::kWaiting;
      break;
    case LayerDecision::kFetch:
      states_[index] = State::kQueued;
      bytes_total_ += image_.layers[index].size;
      break;
  }
  changed_.NotifyAll();
  return absl::OkStatus();
}

void Pull::GoOn() {
  const base::MutexLock lock(&mutex_);
  if (is_stall_told_) {
    is_stall_told_ = false;
    ++times_resumed_;
    std::ranges::replace(states_, State::kStalled, State::kFetching);
    changed_.NotifyAll();
  }
}

size_t Pull::Count(State state) const {
  return static_cast<size_t>(std::ranges::count(states_, state));
}

bool Pull::NothingMoves() const {
  const size_t stalled = Count(State::kStalled);
  const bool can_begin_another = Count(State::kQueued) > 0 && stalled < threads_.size();
  return stalled > 0 && Count(State::kFetching) == 0 && !can_begin_another;
}

Stalled Pull::DescribeStall() const {
  std::string reasons;
  size_t told = 0;
  for (size_t i = 0; i < states_.size(); ++i) {
    if (states_[i] != State::kStalled) {
      continue;
    }
    if (++told <= kMaxStallsTold) {
      reasons += base::StrCat(reasons.empty() ? "" : "; ", "layer ", image_.layers[i].digest, ": ",
                              base::ToStd(stalls_[i].message()));
    }
  }
  if (told > kMaxStallsTold) {
    reasons += base::StrCat("; and ", told - kMaxStallsTold, " more layers");
  }
  return {absl::UnavailableError(base::StrCat("pull ", request_.reference, ": ", reasons))};
}

bool Pull::NothingLeft() const {
  return std::ranges::all_of(states_, [](State state) { return state == State::kSettled; });
}

// Waits until all layers are settled or one has failed, reporting progress and standstill
// meanwhile.
absl::Status Pull::AwaitLayers() {
  Progress last;
  for (;;) {
    Progress now;
    bool is_over = false;
    absl::Status failure;
    std::optional<Stalled> stall;
    {
      const base::MutexLock lock(&mutex_);
      if (!NothingLeft() && failure_.ok()) {
        changed_.WaitUntil(&mutex_, base::SteadyTime::Now() + kProgressInterval);
      }
      is_over = NothingLeft();
      failure = failure_;
      now = {bytes_done_.load(), bytes_total_};
      if (failure_.ok() && !is_stall_told_ && NothingMoves()) {
        is_stall_told_ = true;
        stall = DescribeStall();
      }
    }
    if (now.bytes_done != last.bytes_done || now.bytes_total != last.bytes_total) {
      RETURN_IF_ERROR(Send(now));
      last = now;
    }
    if (stall.has_value()) {
      RETURN_IF_ERROR(Send(*stall));
    }
    if (!failure.ok() || is_over) {
      return failure;
    }
  }
}

// The largest first: then none is left over for one thread alone at the end.
int Pull::TakeQueued() {
  int largest = -1;
  for (size_t i = 0; i < states_.size(); ++i) {
    if (states_[i] == State::kQueued &&
        (largest < 0 || image_.layers[i].size > image_.layers[static_cast<size_t>(largest)].size)) {
      largest = static_cast<int>(i);
    }
  }
  if (largest >= 0) {
    states_[static_cast<size_t>(largest)] = State::kFetching;
  }
  return largest;
}

// The body of a fetching thread.
void Pull::FetchLayers() {
  for (;;) {
    int index = -1;
    {
      const base::MutexLock lock(&mutex_);
      // Nothing begins between `stalled` and `resume`.
      while (failure_.ok() && !NothingLeft() && (is_stall_told_ || (index = TakeQueued()) < 0)) {
        changed_.Wait(&mutex_);
      }
    }
    if (index < 0) {
      return;
    }
    const absl::Status status = FetchLayer(image_.layers[static_cast<size_t>(index)]);
    const base::MutexLock lock(&mutex_);
    if (!status.ok() && failure_.ok()) {
      failure_ = status;
    }
    states_[static_cast<size_t>(index)] = State::kSettled;
    changed_.NotifyAll();
  }
}

// Streams the layer until some source's bytes are the right ones. What several sources put together
// and is wrong comes once more from each alone, the first first: then it is known who is to blame.
// One that lacks the layer or breaks then is passed over like one whose bytes are wrong.
absl::Status Pull::FetchLayer(const LayerQuestion& layer) {
  if (archive_ != nullptr) {
    return base::Annotate(ReadFromArchive(layer), base::StrCat("layer ", layer.digest));
  }
  const std::string what = base::StrCat("layer ", layer.digest);
  std::vector<BlobSource> sources = SourcesOf(layer);
  if (sources.empty()) {
    return absl::FailedPreconditionError(
        base::StrCat(what, ": no endpoint may be asked for content"));
  }
  EndpointFailures failures;
  bool is_single = false;
  for (;;) {
    BlobReader::Options options;
    options.sources = sources;
    options.max_ranges = is_single ? 1 : request_.limits.max_parallel_ranges;
    if (is_single) {
      options.sources.resize(1);
    }
    const bool is_passed_over = is_single && sources.size() > 1;  // If it has nothing for us.
    if (!is_passed_over) {
      options.wait_to_go_on = [&](const absl::Status& why) { return WaitToGoOn(layer.index, why); };
    }
    BlobReader reader(client_.get(), &range_budget_, layer.digest, layer.size, options);
    absl::StatusOr<LayerDone> done =
        Stream(layer, [&](std::string* chunk) { return reader.Read(chunk); });
    if (done.ok()) {
      return Send(*std::move(done));
    }
    const bool has_come = !reader.contributors().empty();
    const bool is_damaged = absl::IsDataLoss(done.status()) && has_come;
    const bool is_lacking = is_single && (!has_come || absl::IsUnavailable(done.status()));
    if (!is_damaged && !is_lacking) {
      return base::Annotate(done.status(), what);
    }
    if (reader.is_patchwork() && !is_single) {
      is_single = true;
      continue;
    }
    const BlobSource culprit = has_come ? reader.contributors().front() : sources.front();
    client_->NoteResult(culprit.endpoint, false);
    // A reader that failed itself has named its source already.
    failures.Add(is_damaged ? client_->Name(culprit) : "", done.status());
    std::erase(sources, culprit);
    if (sources.empty()) {
      return base::Annotate(failures.Combined(), what);
    }
  }
}

absl::Status Pull::ReadFromArchive(const LayerQuestion& layer) {
  ASSIGN_OR_RETURN(const ByteSource bytes, archive_->OpenBlob(layer.digest));
  ASSIGN_OR_RETURN(LayerDone done, Stream(layer, bytes));
  return Send(std::move(done));
}

// The order in which to ask for the layer: the endpoints, then what its manifest names.
std::vector<BlobSource> Pull::SourcesOf(const LayerQuestion& layer) {
  std::vector<BlobSource> sources;
  for (const int endpoint : client_->ContentEndpoints()) {
    sources.push_back({endpoint, ""});
  }
  for (const std::string& url : image_.blobs[static_cast<size_t>(layer.index)].urls) {
    sources.push_back({BlobSource::kForeign, url});
  }
  return sources;
}

// Returns when the layer is to be tried again: after `resume`, or, as long as other layers come in,
// after a while.
absl::Status Pull::WaitToGoOn(int layer, const absl::Status& why) {
  const auto index = static_cast<size_t>(layer);
  const base::MutexLock lock(&mutex_);
  const int resumed = times_resumed_;
  states_[index] = State::kStalled;
  stalls_[index] = why;
  changed_.NotifyAll();
  absl::Duration& pause = pauses_[index];
  pause = std::clamp(pause * 2, kFirstPause, kLongestPause);
  const base::SteadyTime again = base::SteadyTime::Now() + pause;
  while (times_resumed_ == resumed && (is_stall_told_ || base::SteadyTime::Now() < again)) {
    changed_.WaitUntil(&mutex_, is_stall_told_ ? base::SteadyTime::InfiniteFuture() : again);
  }
  states_[index] = State::kFetching;
  return absl::OkStatus();
}

// One attempt. Each has a folder of its own; those of failed ones are swept with the staging
// directory.
absl::StatusOr<LayerDone> Pull::Stream(const LayerQuestion& layer, const ByteSource& bytes) {
  const Descriptor& blob = image_.blobs[static_cast<size_t>(layer.index)];
  const std::string directory = base::StrCat(directories_.fetch_add(1) + 1);
  const bool is_file = !blob.file_name.empty();
  ASSIGN_OR_RETURN(LayerProcess process,
                   is_file ? forker_.StartFile(directory, {blob.file_name, blob.digest})
                           : forker_.StartLayer(directory));
  bool is_at_hand = IsContentOf(blob.data, blob);
  uint64_t received = 0;
  const ByteSource source = [&](std::string* chunk) -> absl::StatusOr<bool> {
    if (received == 0 && is_at_hand) {
      *chunk = blob.data;
      received = chunk->size();
      return true;
    }
    if (is_at_hand) {
      return false;
    }
    absl::StatusOr<bool> has_more = bytes(chunk);
    received += has_more.ok() && *has_more ? chunk->size() : 0;
    return has_more;
  };
  Stages stages;
  absl::StatusOr<LayerDone> done =
      StreamLayer(layer, is_file ? BlobForm::kFile : BlobForm::kLayer, request_.limits, source,
                  std::move(process), &bytes_done_, &stages);
  const base::MutexLock lock(&mutex_);
  Add(stages, &stages_);
  if (!done.ok()) {
    bytes_done_ -= received;
  }
  return done;
}

}  // namespace imageservice::worker
