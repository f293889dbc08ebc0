#include "imageservice/worker/pull.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/layer_stream.h"

namespace imageservice::worker {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);
constexpr int kMaxTransfers = 3;  // Of one layer from one endpoint, when they break midway.

// Statuses after which other bytes, from here or elsewhere, may do.
bool IsTransferFault(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDataLoss(status);
}

}  // namespace

absl::Status Pull::Send(const WorkerMessage& message) {
  return channel_.Send(base::Context(), Encode(message));
}

absl::Status Pull::Run() {
  ASSIGN_OR_RETURN(http_, HttpClient::Create());
  // A message that cannot be sent means that the daemon is gone, which ends the worker anyway.
  const RegistryClient::Events events = {
      [this](const Token& token) { Send(token).IgnoreError(); },
      [this](const std::string& warning) { Send(Warning{warning}).IgnoreError(); }};
  client_ = std::make_unique<RegistryClient>(http_.get(), &request_.endpoints, events);
  ASSIGN_OR_RETURN(image_, ResolveImage(client_.get(), request_));
  RETURN_IF_ERROR(AskAboutLayers());
  const auto limit = static_cast<size_t>(std::max(1, request_.limits.max_parallel_layers));
  for (size_t i = 0; i < std::min(image_.layers.size(), limit); ++i) {
    threads_.emplace_back([this] { FetchLayers(); });
  }
  RETURN_IF_ERROR(AwaitLayers());
  for (std::thread& thread : threads_) {
    thread.join();
  }
  return absl::OkStatus();
}

absl::Status Pull::AskAboutLayers() {
  {
    const base::MutexLock lock(&mutex_);
    states_.assign(image_.layers.size(), State::kAsked);
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

bool Pull::NothingLeft() const {
  return std::ranges::all_of(states_, [](State state) { return state == State::kSettled; });
}

// Waits until all layers are settled or one has failed, reporting progress meanwhile.
absl::Status Pull::AwaitLayers() {
  Progress last;
  for (;;) {
    Progress now;
    bool is_over = false;
    absl::Status failure;
    {
      const base::MutexLock lock(&mutex_);
      if (!NothingLeft() && failure_.ok()) {
        changed_.WaitUntil(&mutex_, absl::Now() + kProgressInterval);
      }
      is_over = NothingLeft();
      failure = failure_;
      now = {bytes_done_.load(), bytes_total_};
    }
    if (now.bytes_done != last.bytes_done || now.bytes_total != last.bytes_total) {
      RETURN_IF_ERROR(Send(now));
      last = now;
    }
    if (!failure.ok() || is_over) {
      return failure;
    }
  }
}

int Pull::TakeQueued() {
  const auto found = std::ranges::find(states_, State::kQueued);
  if (found == states_.end()) {
    return -1;
  }
  *found = State::kFetching;
  return static_cast<int>(found - states_.begin());
}

// The body of a fetching thread.
void Pull::FetchLayers() {
  for (;;) {
    int index = -1;
    {
      const base::MutexLock lock(&mutex_);
      while (failure_.ok() && !NothingLeft() && (index = TakeQueued()) < 0) {
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

absl::Status Pull::FetchLayer(const LayerQuestion& layer) {
  // Who had the manifest comes first, then the others in their order.
  std::vector<int> endpoints = {image_.documents.endpoint};
  for (int i = 0; i < static_cast<int>(request_.endpoints.size()); ++i) {
    if (i != image_.documents.endpoint) {
      endpoints.push_back(i);
    }
  }
  const std::string what = base::StrCat("layer ", layer.digest);
  std::string reasons;
  absl::StatusCode code = absl::StatusCode::kUnknown;
  for (const int endpoint : endpoints) {
    bool is_transfer_fault = false;
    absl::StatusOr<LayerDone> done = FetchFrom(endpoint, layer, &is_transfer_fault);
    if (done.ok()) {
      return Send(*std::move(done));
    }
    if (!is_transfer_fault) {
      return base::Annotate(done.status(), what);
    }
    code = done.status().code();
    reasons +=
        base::StrCat(reasons.empty() ? "" : "; ",
                     PrintableUrl(request_.endpoints[static_cast<size_t>(endpoint)].base_url), ": ",
                     base::ToStd(done.status().message()));
  }
  return absl::Status(code, base::StrCat(what, ": ", reasons));
}

// One endpoint's attempts. Each has a folder of its own; those of failed ones are swept with the
// staging directory. Sets `is_transfer_fault` when another endpoint may do better.
absl::StatusOr<LayerDone> Pull::FetchFrom(int endpoint, const LayerQuestion& layer,
                                          bool* is_transfer_fault) {
  for (int attempt = 1;; ++attempt) {
    *is_transfer_fault = true;
    ASSIGN_OR_RETURN(HttpResponse response, client_->OpenBlob(endpoint, layer.digest));
    *is_transfer_fault = false;
    ASSIGN_OR_RETURN(LayerProcess process,
                     forker_.StartLayer(base::StrCat(directories_.fetch_add(1) + 1)));
    std::atomic<uint64_t> received = 0;
    const ByteSource source = [&](std::string* chunk) -> absl::StatusOr<bool> {
      absl::StatusOr<bool> has_more = response.Read(chunk);
      received += chunk->size();
      return has_more;
    };
    Stages stages;
    absl::StatusOr<LayerDone> done = StreamLayer(layer, request_.limits, source,
                                                 std::move(process), &bytes_done_, &stages);
    if (done.ok()) {
      return done;
    }
    bytes_done_ -= received.load();
    *is_transfer_fault = IsTransferFault(done.status());
    if (!absl::IsUnavailable(done.status()) || attempt >= kMaxTransfers) {
      return done;
    }
    absl::SleepFor(RetryDelay(attempt, ""));
  }
}

}  // namespace imageservice::worker
