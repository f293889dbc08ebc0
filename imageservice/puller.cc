#include "imageservice/puller.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

constexpr size_t kMaxTokens = 256;
constexpr size_t kMaxQueuedPulls = 256;
// A pull says how far it is this often.
constexpr absl::Duration kLogInterval = absl::Seconds(5);

// Pieces that may hold anything, told apart.
void Append(std::string_view piece, std::string* key) {
  *key += base::StrCat(piece.size(), ":", piece);
}

void AppendEndpoint(const worker::Endpoint& endpoint, std::string* key) {
  Append(endpoint.base_url, key);
  Append(endpoint.repository, key);
  Append(endpoint.credentials.username, key);
  Append(endpoint.credentials.password, key);
  Append(endpoint.credentials.identity_token, key);
  Append(endpoint.credentials.registry_token, key);
}

}  // namespace

std::string TokenCache::KeyOf(const worker::Endpoint& endpoint) {
  std::string key;
  AppendEndpoint(endpoint, &key);
  return key;
}

void TokenCache::Keep(const worker::Endpoint& endpoint, const worker::Token& token) {
  const int64_t now = absl::ToUnixSeconds(absl::Now());
  base::MutexLock lock(&mutex_);
  std::erase_if(tokens_, [&](const auto& entry) { return entry.second.expires_at <= now; });
  if (tokens_.size() >= kMaxTokens) {
    tokens_.erase(tokens_.begin());
  }
  tokens_[KeyOf(endpoint)] = token;
}

std::string TokenCache::Find(const worker::Endpoint& endpoint) const {
  const int64_t now = absl::ToUnixSeconds(absl::Now());
  base::MutexLock lock(&mutex_);
  const auto found = tokens_.find(KeyOf(endpoint));
  return found == tokens_.end() || found->second.expires_at <= now ? "" : found->second.token;
}

Puller::Puller(PullEnvironment environment, int max_parallel_pulls,
               std::function<void(const ImagePtr&)> committed)
    : environment_(std::move(environment)),
      committed_(std::move(committed)),
      lane_("pull-session", max_parallel_pulls, kMaxQueuedPulls) {
  environment_.keep_token = [this](const worker::Endpoint& endpoint, const worker::Token& token) {
    tokens_.Keep(endpoint, token);
  };
}

Puller::~Puller() { CancelAll(); }

void Puller::CancelAll() {
  base::MutexLock lock(&mutex_);
  for (const std::shared_ptr<Running>& pull : running_) {
    pull->cancellation->Cancel();
  }
}

std::string Puller::KeyOf(const PullPlan& plan) {
  std::string key;
  for (const PullSource& source : plan.sources) {
    Append(source.name.str(), &key);
    AppendEndpoint(source.endpoint, &key);
  }
  return key;
}

absl::StatusOr<ImagePtr> Puller::Pull(const base::Context& ctx, PullPlan plan) {
  RETURN_IF_ERROR(ctx.Check());
  const std::string key = KeyOf(plan);
  const std::string what = base::StrCat("pull ", plan.reference);
  std::shared_ptr<Running> pull;
  bool joined = false;
  {
    base::MutexLock lock(&mutex_);
    std::shared_ptr<Running>& entry = joinable_[key];
    joined = entry != nullptr;
    if (joined) {
      ++entry->callers;
    } else {
      entry = std::make_shared<Running>();
      entry->progress.reference = plan.reference;
      entry->progress.started = entry->logged = absl::Now();
      running_.push_back(entry);
    }
    pull = entry;
  }
  if (!joined) {
    const absl::Status posted =
        lane_.Post([this, key, pull, plan = std::move(plan)] { Run(key, pull, plan); });
    if (!posted.ok()) {
      Finish(key, pull, base::Annotate(posted, what));
    }
  }
  const absl::Status waited = pull->finished.Wait(ctx);
  base::MutexLock lock(&mutex_);
  --pull->callers;
  if (waited.ok()) {
    return pull->result;
  }
  if (pull->callers == 0 && !pull->finished.is_set()) {
    const auto found = joinable_.find(key);
    if (found != joinable_.end() && found->second == pull) {
      joinable_.erase(found);
    }
    pull->cancellation->Cancel();
  }
  return base::Annotate(waited, what);
}

void Puller::Run(const std::string& key, const std::shared_ptr<Running>& pull, PullPlan plan) {
  const base::Context ctx(absl::InfiniteFuture(), pull->cancellation);
  const absl::Time begin = absl::Now();
  const std::string reference = plan.reference;
  for (PullSource& source : plan.sources) {
    source.endpoint.bearer_token = tokens_.Find(source.endpoint);
  }
  absl::StatusOr<ImagePtr> image = absl::CancelledError("nobody waits for it any more");
  if (ctx.Check().ok()) {
    PullSession session(environment_, std::move(plan),
                        [&](const PullProgress& progress) { Report(pull, progress); });
    image = session.Run(ctx);
  }
  if (image.ok()) {
    base::LogInfo("pulled ", reference, " as ", (*image)->id, " in ",
                  absl::FormatDuration(absl::Trunc(absl::Now() - begin, absl::Milliseconds(1))));
    committed_(*image);
  }
  Finish(key, pull, std::move(image));
}

void Puller::Report(const std::shared_ptr<Running>& pull, const PullProgress& progress) {
  const absl::Time now = absl::Now();
  {
    base::MutexLock lock(&mutex_);
    pull->progress = progress;
    if (now - pull->logged < kLogInterval) {
      return;
    }
    pull->logged = now;
  }
  base::LogInfo("pulling ", progress.reference, ": ", progress.bytes_done >> 20, " of ",
                progress.bytes_total >> 20, " MiB, ", progress.layers_done, " of ",
                progress.layers_total, " layers");
}

void Puller::Finish(const std::string& key, const std::shared_ptr<Running>& pull,
                    absl::StatusOr<ImagePtr> result) {
  base::MutexLock lock(&mutex_);
  pull->result = std::move(result);
  const auto found = joinable_.find(key);
  if (found != joinable_.end() && found->second == pull) {
    joinable_.erase(found);
  }
  std::erase(running_, pull);
  pull->finished.Set();
}

std::vector<PullProgress> Puller::Progress() const {
  base::MutexLock lock(&mutex_);
  std::vector<PullProgress> progress;
  for (const std::shared_ptr<Running>& pull : running_) {
    progress.push_back(pull->progress);
  }
  return progress;
}

}  // namespace imageservice
