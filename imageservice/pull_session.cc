#include "imageservice/pull_session.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/id.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

using Claim = LayerStore::Claim;

// A worker that does not read its socket for so long is broken.
constexpr absl::Duration kSendTimeout = absl::Seconds(30);
// From the closing of its socket to its death.
constexpr absl::Duration kExitTimeout = absl::Seconds(5);
constexpr int kMaxWarnings = 20;  // In the log, of one pull.
// What finished layers that wait for a lower one may have deferred together, in memory: as much as
// a few of the largest.
constexpr size_t kMaxWaitingOperations = 4 * worker::kMaxDeferredOperations;
constexpr size_t kMaxWaitingBytes = 4 * worker::kMaxDeferredBytes;

worker::LayerDecision DecisionFor(Claim claim) {
  switch (claim) {
    case Claim::kPresent:
      return worker::LayerDecision::kHave;
    case Claim::kMine:
      return worker::LayerDecision::kFetch;
    case Claim::kOther:
      break;
  }
  return worker::LayerDecision::kWait;
}

// Names the file system when it is full, and no limit of the pull was hit. To be asked before the
// cleaning up, which makes room.
absl::Status NameFullDisk(const absl::Status& status, const std::string& directory) {
  constexpr uint64_t kFull = 1 << 20;
  struct statvfs info = {};
  const bool known = statvfs(directory.c_str(), &info) == 0;
  if (!known ||
      (info.f_bavail * info.f_frsize >= kFull && (info.f_files == 0 || info.f_favail > 0))) {
    return status;
  }
  return base::Annotate(status, base::StrCat("the file system of ", directory, " is full"));
}

// Layers that are committed have nothing deferred any more.
template <typename Layers>
absl::Status CheckWaiting(const Layers& layers) {
  size_t operations = 0;
  size_t bytes = 0;
  for (const auto& layer : layers) {
    if (!layer.done.has_value()) {
      continue;
    }
    operations += layer.done->deferred.size();
    for (const worker::DeferredOperation& operation : layer.done->deferred) {
      bytes += operation.path.size() + operation.target.size();
    }
  }
  if (operations > kMaxWaitingOperations || bytes > kMaxWaitingBytes) {
    return absl::ResourceExhaustedError(base::StrCat(
        "layers that wait for a lower one have deferred more than ", kMaxWaitingOperations,
        " operations or ", kMaxWaitingBytes, " bytes of paths together"));
  }
  return absl::OkStatus();
}

}  // namespace

PullSession::PullSession(const PullEnvironment& environment, PullPlan plan, PullHooks hooks)
    : environment_(environment),
      plan_(std::move(plan)),
      hooks_(std::move(hooks)),
      id_(base::RandomHex64().substr(0, 16)),
      owner_("pull/" + id_),
      staging_(environment.staging_directory + "/" + id_) {
  progress_.reference = plan_.reference;
  progress_.started = absl::Now();
  NoteProgress();
}

absl::StatusOr<ImagePtr> PullSession::Run(const base::Context& ctx) {
  environment_.layers->AddListener(&wake_);
  absl::StatusOr<ImagePtr> image = absl::InternalError("not run");
  absl::Status status;
  {
    absl::StatusOr<base::Subprocess> process = StartWorker();
    status = process.ok() ? Converse(ctx, &*process) : process.status();
    // The worker is killed here at the latest.
  }
  if (status.ok()) {
    image = CommitImage();
  } else {
    image = status;
  }
  if (absl::IsResourceExhausted(image.status())) {
    image = NameFullDisk(image.status(), environment_.staging_directory);
  }
  CleanUp();
  if (!image.ok() && !worker_failed_) {  // The worker's own messages are complete.
    return base::Annotate(image.status(), base::StrCat("pull ", plan_.reference));
  }
  return image;
}

absl::StatusOr<base::Subprocess> PullSession::StartWorker() {
  if (mkdir(staging_.c_str(), 0700) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("make ", staging_));
  }
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::ErrnoStatus(errno, "make a socket pair");
  }
  channel_.emplace(base::UniqueFd(ends[0]));
  const base::UniqueFd theirs(ends[1]);
  base::UniqueFd verifiers;
  ASSIGN_OR_RETURN(verdicts_, worker::VerdictBox::Open(&verifiers));
  base::Command command;
  command.argv = {environment_.worker_path};
  command.env = environment_.worker_environment;
  command.directory = "/";
  command.stderr_fd = STDERR_FILENO;  // A crash's last words.
  command.extra_fds = {{worker::kWorkerSocket, theirs.get()},
                       {worker::kVerdictSocket, verifiers.get()}};
  return base::Subprocess::Spawn(environment_.launcher->Wrap(
      std::move(command), {.cgroup = environment_.worker_cgroup,
                           .all_hierarchies = !environment_.worker_cgroup.empty()}));
}

worker::PullRequest PullSession::Request() const {
  worker::PullRequest request;
  request.reference = plan_.reference;
  if (plan_.archive.has_value()) {
    request.archive = plan_.archive->path;
    request.tag = plan_.archive->image;
    request.endpoints.emplace_back();
  } else {
    request.tag = plan_.sources.front().name.tag();
    request.digest = plan_.sources.front().name.digest();
  }
  for (const PullSource& source : plan_.sources) {
    request.endpoints.push_back(source.endpoint);
  }
  request.platform = environment_.platform;
  request.limits = environment_.limits;
  request.staging_directory = staging_;
  return request;
}

absl::Status PullSession::Converse(const base::Context& ctx, base::Subprocess* process) {
  absl::Status status = Send(ctx, Request());
  while (status.ok() && !(worker_done_ && committed_ == layers_.size())) {
    status = ReceiveAll(ctx);
    if (status.ok()) {
      status = CommitLayers(ctx);
    }
    if (status.ok()) {
      status = AnswerWaiting(ctx);
    }
    if (status.ok() && !worker_done_) {
      status = WaitForNews(ctx);
    }
  }
  if (!worker_lost_) {
    return status;
  }
  const absl::StatusOr<base::ExitState> end = process->Wait(ctx.WithTimeout(kExitTimeout));
  RETURN_IF_ERROR(ctx.Check());
  return absl::InternalError(
      base::StrCat("the pull worker ended without a word",
                   end.ok() ? base::StrCat(" (exit code ", end->code, ")") : std::string()));
}

// A worker that is gone may have said why before: that is for ReceiveAll to find out.
absl::Status PullSession::Send(const base::Context& ctx, const worker::DaemonMessage& message) {
  const absl::Status status =
      channel_->Send(ctx.WithTimeout(kSendTimeout), worker::Encode(message));
  if (status.ok() || absl::IsUnavailable(status)) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(ctx.Check());
  return BrokenProtocol(base::ToStd(status.message()));
}

absl::Duration PullSession::TimeLeftForProgress() const {
  const bool waits_for_others = std::any_of(layers_.begin(), layers_.end(), [](const Layer& layer) {
    return layer.claim == Claim::kOther;
  });
  if (waits_for_others) {
    return absl::InfiniteDuration();
  }
  return environment_.progress_timeout -
         absl::FromChrono(std::chrono::steady_clock::now() - progressed_);
}

absl::Status PullSession::WaitForNews(const base::Context& ctx) {
  const absl::Duration left = TimeLeftForProgress();
  if (left <= absl::ZeroDuration()) {
    return absl::UnavailableError(
        base::StrCat("no progress for ", absl::FormatDuration(environment_.progress_timeout)));
  }
  if (!wake_.is_set()) {  // It may be, with its descriptor drained by a Clear that lost the race.
    pollfd entries[] = {{.fd = channel_->fd(), .events = POLLIN, .revents = 0},
                        {.fd = verdicts_->fd(), .events = POLLIN, .revents = 0},
                        {.fd = wake_.fd(), .events = POLLIN, .revents = 0},
                        {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0}};
    poll(entries, std::size(entries), ctx.WithTimeout(left).PollTimeout());
  }
  return ctx.Check();
}

absl::Status PullSession::ReceiveAll(const base::Context& ctx) {
  while (!worker_done_) {
    RETURN_IF_ERROR(ctx.Check());  // A worker that never stops talking can be cancelled too.
    if (const absl::Status status = verdicts_->Receive(); !status.ok()) {
      return BrokenProtocol(base::ToStd(status.message()));
    }
    const absl::StatusOr<std::optional<std::string>> frame = channel_->TryReceive();
    if (absl::IsResourceExhausted(frame.status())) {
      return BrokenProtocol(base::ToStd(frame.status().message()));
    }
    if (!frame.ok()) {
      worker_lost_ = true;
      return frame.status();
    }
    if (!frame->has_value()) {
      return absl::OkStatus();
    }
    absl::StatusOr<worker::WorkerMessage> message = worker::ParseWorkerMessage(**frame);
    if (!message.ok()) {
      return BrokenProtocol(base::ToStd(message.status().message()));
    }
    RETURN_IF_ERROR(Handle(ctx, *std::move(message)));
  }
  return absl::OkStatus();
}

absl::Status PullSession::Handle(const base::Context& ctx, worker::WorkerMessage message) {
  return std::visit(
      [&](auto&& body) -> absl::Status {
        using Body = std::decay_t<decltype(body)>;
        if constexpr (std::is_same_v<Body, worker::Progress>) {
          if (body.bytes_done > progress_.bytes_done) {
            NoteProgress();
          }
          progress_.bytes_done = body.bytes_done;
          progress_.bytes_total = body.bytes_total;
          hooks_.report(progress_);
          return absl::OkStatus();
        } else if constexpr (std::is_same_v<Body, worker::Token>) {
          return OnToken(body);
        } else if constexpr (std::is_same_v<Body, worker::Warning>) {
          OnWarning(body.message);
          return absl::OkStatus();
        } else if constexpr (std::is_same_v<Body, worker::Resolved>) {
          return OnResolved(std::move(body));
        } else if constexpr (std::is_same_v<Body, worker::LayerQuestion>) {
          return OnQuestion(ctx, std::move(body));
        } else if constexpr (std::is_same_v<Body, worker::LayerDone>) {
          return OnLayerDone(body);
        } else if constexpr (std::is_same_v<Body, worker::Done>) {
          return OnDone(body);
        } else if constexpr (std::is_same_v<Body, worker::Stalled>) {
          return OnStalled(ctx, body.status);
        } else {
          worker_failed_ = !body.status.ok();
          return worker_failed_ ? body.status : BrokenProtocol("an error that is none");
        }
      },
      std::move(message));
}

// The words are a registry's: not too many of them.
void PullSession::OnWarning(const std::string& message) {
  if (++warnings_ <= kMaxWarnings) {
    base::LogWarning("pull ", plan_.reference, ": ", message);
  } else if (warnings_ == kMaxWarnings + 1) {
    base::LogWarning("pull ", plan_.reference, ": further warnings are not shown");
  }
}

absl::Status PullSession::OnToken(const worker::Token& token) {
  if (token.endpoint < 0 || static_cast<size_t>(token.endpoint) >= plan_.sources.size()) {
    return BrokenProtocol("a token for an endpoint that was not given");
  }
  environment_.keep_token(plan_.sources[static_cast<size_t>(token.endpoint)].endpoint, token);
  return absl::OkStatus();
}

absl::Status PullSession::OnResolved(worker::Resolved resolved) {
  if (resolved_.has_value()) {
    return BrokenProtocol("a second manifest");
  }
  if (!HasEndpoint(resolved.endpoint)) {
    return BrokenProtocol("an answer from an endpoint that was not given");
  }
  if (!base::CheckHex64(resolved.image_id).ok() || !IsDigest(resolved.manifest_digest) ||
      !(resolved.index_digest.empty() || IsDigest(resolved.index_digest))) {
    return BrokenProtocol("a malformed digest");
  }
  ASSIGN_OR_RETURN(image_, VerifyResolved(resolved, plan_.archive.has_value()
                                                        ? std::string()
                                                        : plan_.sources.front().name.digest()));
  progress_.layers_total = static_cast<int>(image_.chain_ids.size());
  hooks_.report(progress_);
  NoteProgress();
  resolved_ = std::move(resolved);
  return absl::OkStatus();
}

absl::Status PullSession::OnQuestion(const base::Context& ctx, worker::LayerQuestion question) {
  const size_t index = layers_.size();
  if (!resolved_.has_value() || index >= image_.chain_ids.size() ||
      static_cast<size_t>(question.index) != index) {
    return BrokenProtocol("a question about a layer out of order");
  }
  if (question.parent != image_.ParentOf(index) ||
      question.diff_id != image_.config.diff_ids[index] ||
      question.chain_id != image_.chain_ids[index]) {
    return BrokenProtocol("a layer that is not the config's");
  }
  Layer layer;
  layer.question = std::move(question);
  layer.claim = environment_.layers->ClaimFor(owner_, layer.question.chain_id);
  layers_.push_back(std::move(layer));
  return Answer(ctx, layers_.back());
}

absl::Status PullSession::Answer(const base::Context& ctx, const Layer& layer) {
  return Send(ctx, worker::LayerAnswer{.index = layer.question.index,
                                       .decision = DecisionFor(layer.claim)});
}

// What is in the folder is what its verifier says, not who sent this. The folder leaves the
// worker's reach before anything else happens to it.
absl::Status PullSession::OnLayerDone(const worker::LayerDone& done) {
  const auto index = static_cast<size_t>(done.index);
  if (done.index < 0 || index >= layers_.size() || layers_[index].claim != Claim::kMine ||
      layers_[index].done.has_value()) {
    return BrokenProtocol("a layer nobody asked for");
  }
  Layer& layer = layers_[index];
  absl::StatusOr<worker::UnpackedLayer> unpacked =
      verdicts_->Take(done.directory, layer.question.diff_id);
  if (!unpacked.ok()) {
    return BrokenProtocol(base::ToStd(unpacked.status().message()));
  }
  const std::string from = base::StrCat(staging_, "/", done.directory);
  const std::string to = FinishedPath(done.index);
  if (rename(from.c_str(), to.c_str()) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("take over layer ", layer.question.chain_id));
  }
  struct stat info;
  if (lstat(to.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return BrokenProtocol("a layer that is no directory");
  }
  layer.done = *std::move(unpacked);
  NoteProgress();
  return CheckWaiting(layers_);
}

// The worker keeps what it has got; so do we, until somebody wants the image or one of its layers.
absl::Status PullSession::OnStalled(const base::Context& ctx, const absl::Status& why) {
  if (why.ok()) {
    return BrokenProtocol("an error that is none");
  }
  Event wanted;
  environment_.layers->OfferClaims(owner_, &wanted);
  progress_.stalled = true;
  hooks_.report(progress_);
  const absl::Status verdict = hooks_.stalled(ctx, why, wanted, channel_->fd());
  environment_.layers->WithdrawOffer(owner_);
  worker_failed_ = !verdict.ok();  // Its words are complete.
  RETURN_IF_ERROR(verdict);
  progress_.stalled = false;
  hooks_.report(progress_);
  NoteProgress();
  return Send(ctx, worker::Resume());
}

absl::Status PullSession::OnDone(const worker::Done& done) {
  const bool complete = resolved_.has_value() && layers_.size() == image_.chain_ids.size() &&
                        std::all_of(layers_.begin(), layers_.end(), [](const Layer& layer) {
                          return layer.claim == Claim::kPresent || layer.done.has_value();
                        });
  if (!complete) {
    return BrokenProtocol("it is done before all layers are");
  }
  worker_done_ = true;
  stages_ = done.stages;
  return absl::OkStatus();
}

// Layers that another pull was fetching have come, or are ours to fetch.
absl::Status PullSession::AnswerWaiting(const base::Context& ctx) {
  if (!wake_.is_set()) {
    return absl::OkStatus();
  }
  wake_.Clear();  // Before looking: what changes from now on sets it again.
  for (Layer& layer : layers_) {
    if (layer.claim != Claim::kOther) {
      continue;
    }
    layer.claim = environment_.layers->ClaimFor(owner_, layer.question.chain_id);
    if (layer.claim != Claim::kOther) {
      NoteProgress();
      RETURN_IF_ERROR(Answer(ctx, layer));
    }
  }
  return CommitLayers(ctx);
}

void PullSession::CleanUp() {
  environment_.layers->RemoveListener(&wake_);
  std::vector<std::string> left = {staging_};
  for (const Layer& layer : layers_) {
    if (layer.claim == Claim::kMine) {
      left.push_back(FinishedPath(layer.question.index));  // Not there, if it was committed.
    }
  }
  for (const std::string& path : left) {
    const absl::Status status = environment_.trash->Discard(path).status();
    if (!status.ok()) {
      base::LogError("pull ", plan_.reference, ": ", base::ToStd(status.message()));
    }
  }
  environment_.layers->Release(owner_);
}

void PullSession::ReportLayers() {
  progress_.layers_done = static_cast<int>(committed_);
  hooks_.report(progress_);
  NoteProgress();
}

std::string PullSession::Timing() const {
  const auto text = [](absl::Duration time) {
    return absl::FormatDuration(absl::Trunc(time, absl::Milliseconds(1)));
  };
  const auto stage = [&](uint64_t microseconds) {
    return text(absl::Microseconds(static_cast<int64_t>(std::min<uint64_t>(microseconds, 1e15))));
  };
  return base::StrCat("fetch ", stage(stages_.fetch), ", digest ", stage(stages_.digest),
                      ", inflate ", stage(stages_.inflate), ", unpack ", stage(stages_.unpack),
                      ", commit ", text(commit_time_));
}

std::string PullSession::FinishedPath(int index) const {
  return base::StrCat(staging_, "-", index);
}

}  // namespace imageservice
