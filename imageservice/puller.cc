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
constexpr int kMaxStalled = 4;  // Workers that are kept though they can do nothing.
// A pull says how far it is this often.
constexpr absl::Duration kLogInterval = absl::Seconds(5);

// Pieces that may hold anything, told apart.
void Append(std::string_view piece, std::string* key) {
  *key += base::StrCat(piece.size(), ":", piece);
}

void AppendEndpoint(const worker::Endpoint& endpoint, std::string* key) {
  Append(endpoint.base_url, key);
  Append(endpoint.repository, key);
  Append(endpoint.registry_namespace, key);
  for (const std::string& header : endpoint.headers) {
    Append(header, key);
  }
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
      slots_(max_parallel_pulls),
      lane_("pull-session", max_parallel_pulls + kMaxStalled, kMaxQueuedPulls) {
  environment_.keep_token = [this](const worker::Endpoint& endpoint, const worker::Token& token) {
    tokens_.Keep(endpoint, token);
  };
}

Puller::~Puller() { CancelAll(); }

void Puller::CancelAll() {
  base::MutexLock lock(&mutex_);
  for (const RunningPtr& pull : running_) {
    pull->cancellation->Cancel();
  }
}

std::string Puller::KeyOf(const PullPlan& plan) {
  std::string key;
  for (const PullSource& source : plan.sources) {
    Append(source.name.str(), &key);
    AppendEndpoint(source.endpoint, &key);
  }
  if (plan.archive.has_value()) {
    Append(plan.archive->path, &key);
    Append(plan.archive->image, &key);
    for (const Reference& name : plan.archive->names) {
      Append(name.str(), &key);
    }
  }
  return key;
}

absl::StatusOr<ImagePtr> Puller::Pull(const base::Context& ctx, PullPlan plan, Watch watch) {
  RETURN_IF_ERROR(ctx.Check());
  const std::string what = base::StrCat("pull ", plan.reference);
  std::shared_ptr<Round> round;
  bool is_new = false;
  const RunningPtr pull = Join(plan, &round, &is_new);
  int64_t watch_number = 0;
  if (watch) {
    base::MutexLock lock(&mutex_);
    watch_number = ++last_watch_;
    pull->watches[watch_number] = std::move(watch);
  }
  if (is_new) {
    const absl::Status posted =
        lane_.Post([this, pull, plan = std::move(plan)] { Run(pull, plan); });
    if (!posted.ok()) {
      Finish(pull, base::Annotate(posted, what));
    }
  }
  const absl::Status waited = round->finished.Wait(ctx);
  base::MutexLock lock(&mutex_);
  pull->watches.erase(watch_number);
  --round->callers;
  if (waited.ok()) {
    return round->result;
  }
  if (round->callers == 0 && !round->finished.is_set()) {
    Forget(pull);
    pull->cancellation->Cancel();
  }
  return base::Annotate(waited, what);
}

// The pull of this plan, and those in it who wait for what comes next.
Puller::RunningPtr Puller::Join(const PullPlan& plan, std::shared_ptr<Round>* round, bool* is_new) {
  std::string key = KeyOf(plan);
  base::MutexLock lock(&mutex_);
  RunningPtr& pull = joinable_[key];
  *is_new = pull == nullptr;
  if (*is_new) {
    pull = std::make_shared<Running>();
    pull->key = std::move(key);
    pull->log_fields = base::CurrentLogFields();
    pull->progress.reference = plan.reference;
    pull->progress.started = pull->logged = absl::Now();
    running_.push_back(pull);
  } else if (pull->stalled) {
    pull->stalled = false;
    --stalled_;
    pull->go_on.Set();
  }
  *round = pull->round;
  ++pull->round->callers;
  return pull;
}

void Puller::Run(const RunningPtr& pull, PullPlan plan) {
  const base::LogFields fields(pull->log_fields);
  const base::Context ctx(base::SteadyTime::InfiniteFuture(), pull->cancellation);
  const std::string what = base::StrCat("pull ", plan.reference);
  if (const absl::Status turn = slots_.Take(ctx); !turn.ok()) {
    Finish(pull, base::Annotate(turn, what));
    return;
  }
  Finish(pull, RunSession(ctx, pull, std::move(plan)));
}

// The caller has taken a slot, which is given back here.
absl::StatusOr<ImagePtr> Puller::RunSession(const base::Context& ctx, const RunningPtr& pull,
                                            PullPlan plan) {
  const absl::Time begin = absl::Now();
  const std::string reference = plan.reference;
  for (PullSource& source : plan.sources) {
    source.endpoint.bearer_token = tokens_.Find(source.endpoint);
  }
  bool has_slot = true;
  PullHooks hooks;
  hooks.report = [&](const PullProgress& progress) { Report(pull, progress); };
  hooks.stalled = [&](const base::Context& session_ctx, const absl::Status& why,
                      const Event& wanted, int worker) {
    return StandStill(session_ctx, pull, why, wanted, worker, &has_slot);
  };
  PullSession session(environment_, std::move(plan), std::move(hooks));
  absl::StatusOr<ImagePtr> image = session.Run(ctx);
  if (has_slot) {
    slots_.Give();
  }
  if (image.ok()) {
    base::LogInfo("pulled ", reference, " as ", (*image)->id, " in ",
                  absl::FormatDuration(absl::Trunc(absl::Now() - begin, absl::Milliseconds(1))),
                  " (", session.Timing(), ")");
    committed_(*image);
  }
  return image;
}

void Puller::Report(const RunningPtr& pull, const PullProgress& progress) {
  const absl::Time now = absl::Now();
  {
    base::MutexLock lock(&mutex_);
    pull->progress = progress;
    for (const auto& [number, watch] : pull->watches) {
      watch(progress);
    }
    if (now - pull->logged < kLogInterval) {
      return;
    }
    pull->logged = now;
  }
  base::LogInfo("pulling ", progress.reference, ": ", progress.bytes_done >> 20, " of ",
                progress.bytes_total >> 20, " MiB, ", progress.layers_done, " of ",
                progress.layers_total, " layers");
}

// Tells those who wait and waits itself: for somebody who asks again, with a slot of its own then.
absl::Status Puller::StandStill(const base::Context& ctx, const RunningPtr& pull,
                                const absl::Status& why, const Event& wanted, int worker,
                                bool* has_slot) {
  {
    base::MutexLock lock(&mutex_);
    const auto found = joinable_.find(pull->key);
    if (stalled_ >= kMaxStalled || found == joinable_.end() || found->second != pull) {
      return why;
    }
    pull->stalled = true;
    ++stalled_;
    pull->go_on.Clear();
    const std::shared_ptr<Round> told = std::exchange(pull->round, std::make_shared<Round>());
    told->result = why;
    told->finished.Set();
  }
  slots_.Give();
  *has_slot = false;
  base::LogWarning("the pull stands still, to go on when it is asked for again: ",
                   base::ToStd(why.message()));
  Event::WaitForAny(ctx.WithTimeout(environment_.stalled_timeout), {&pull->go_on, &wanted}, worker)
      .IgnoreError();
  {
    base::MutexLock lock(&mutex_);
    if (pull->stalled) {  // Nobody asked.
      pull->stalled = false;
      --stalled_;
      Forget(pull);
      return why;
    }
  }
  RETURN_IF_ERROR(slots_.Take(ctx));
  *has_slot = true;
  base::LogInfo("the pull goes on");
  return absl::OkStatus();
}

void Puller::Finish(const RunningPtr& pull, absl::StatusOr<ImagePtr> result) {
  base::MutexLock lock(&mutex_);
  Forget(pull);
  std::erase(running_, pull);
  pull->round->result = std::move(result);
  pull->round->finished.Set();
}

// From now on who asks for the same starts a pull of its own.
void Puller::Forget(const RunningPtr& pull) {
  const auto found = joinable_.find(pull->key);
  if (found != joinable_.end() && found->second == pull) {
    joinable_.erase(found);
  }
}

std::vector<PullProgress> Puller::Progress() const {
  base::MutexLock lock(&mutex_);
  std::vector<PullProgress> progress;
  for (const RunningPtr& pull : running_) {
    progress.push_back(pull->progress);
  }
  return progress;
}

}  // namespace imageservice
