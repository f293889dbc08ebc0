#include "imageservice/worker/test_daemon.h"

#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <utility>

#include "base/files.h"
#include "base/strings.h"

namespace imageservice::worker {

std::string Message(const PullOutcome& outcome) {
  return std::string(base::ToStd(outcome.status.message()));
}

TestDaemon::TestDaemon() {
  if (mkdir(staging().c_str(), 0700) != 0) {
    abort();
  }
}

PullRequest TestDaemon::Request(const std::string& url, const std::string& repository,
                                const std::string& tag) const {
  PullRequest request;
  request.reference = base::StrCat("test.io/", repository, ":", tag);
  request.tag = tag;
  Endpoint endpoint;
  endpoint.base_url = url + "/v2";
  endpoint.repository = repository;
  request.endpoints.push_back(endpoint);
  request.platform = {"linux", "amd64", ""};
  request.limits = {.max_layer_bytes = 1 << 30, .max_layer_entries = 100'000};
  request.staging_directory = staging();
  return request;
}

void TestDaemon::StartWorker() {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
    abort();
  }
  channel_ = std::make_unique<Channel>(base::UniqueFd(sockets[0]));
  const base::UniqueFd theirs(sockets[1]);
  base::UniqueFd verifiers;
  absl::StatusOr<VerdictBox> verdicts = VerdictBox::Open(&verifiers);
  if (!verdicts.ok()) {
    abort();
  }
  verdicts_ = std::make_unique<VerdictBox>(*std::move(verdicts));
  base::Command command;
  command.argv = {CRISP_PULL_BINARY};
  command.env = environment;
  command.env.push_back("ASAN_OPTIONS=detect_leaks=0");
  command.stderr_fd = 2;
  command.extra_fds = {{kWorkerSocket, theirs.get()}, {kVerdictSocket, verifiers.get()}};
  absl::StatusOr<base::Subprocess> process = base::Subprocess::Spawn(command);
  if (!process.ok()) {
    abort();
  }
  process_ = std::make_unique<base::Subprocess>(*std::move(process));
  pid_ = process_->pid();
}

PullOutcome TestDaemon::Converse(const PullRequest& request, const Decide& decide) {
  PullOutcome outcome;
  const base::Context ctx = base::Context().WithTimeout(absl::Seconds(60));
  channel_->Send(ctx, Encode(DaemonMessage(request))).IgnoreError();
  for (;;) {
    const absl::StatusOr<std::string> json = channel_->Receive(ctx);
    if (!json.ok()) {
      outcome.status = json.status();
      return outcome;
    }
    absl::StatusOr<WorkerMessage> message = ParseWorkerMessage(*json);
    if (!message.ok()) {
      outcome.status = message.status();
      return outcome;
    }
    if (auto* progress = std::get_if<Progress>(&*message)) outcome.progress = *progress;
    if (auto* token = std::get_if<Token>(&*message)) outcome.tokens.push_back(*token);
    if (auto* warning = std::get_if<Warning>(&*message))
      outcome.warnings.push_back(warning->message);
    if (auto* resolved = std::get_if<Resolved>(&*message)) outcome.resolved = *resolved;
    if (auto* done = std::get_if<LayerDone>(&*message)) {
      const std::string diff_id = outcome.questions[static_cast<size_t>(done->index)].diff_id;
      absl::StatusOr<UnpackedLayer> unpacked = verdicts_->Take(done->directory, diff_id);
      if (!unpacked.ok()) {
        outcome.status = unpacked.status();
        return outcome;
      }
      outcome.layers[done->index] = {done->directory, *std::move(unpacked)};
    }
    if (auto* question = std::get_if<LayerQuestion>(&*message)) {
      outcome.questions.push_back(*question);
      for (const LayerAnswer& answer : decide(*question)) {
        channel_->Send(ctx, Encode(DaemonMessage(answer))).IgnoreError();
      }
    }
    if (auto* failed = std::get_if<Failed>(&*message)) {
      outcome.status = failed->status;
      return outcome;
    }
    if (auto* stalled = std::get_if<Stalled>(&*message)) {
      outcome.stalls.push_back(stalled->status);
      if (on_stalled == nullptr || !on_stalled(*stalled)) {
        outcome.status = stalled->status;
        channel_.reset();
        return outcome;
      }
      channel_->Send(ctx, Encode(DaemonMessage(Resume()))).IgnoreError();
    }
    if (auto* done = std::get_if<Done>(&*message)) {
      outcome.done = *done;
      outcome.status = absl::OkStatus();
      return outcome;
    }
  }
}

PullOutcome TestDaemon::Pull(const PullRequest& request) {
  StartWorker();
  PullOutcome outcome = Converse(request, [](const LayerQuestion& question) {
    return std::vector<LayerAnswer>{{question.index, LayerDecision::kFetch}};
  });
  process_->Wait(base::Context().WithTimeout(absl::Seconds(10))).IgnoreError();
  // Its last process may hold the lock a moment longer; the next pull may want the same directory.
  const auto staging = base::Open(request.staging_directory, O_RDONLY | O_DIRECTORY);
  const base::Context limit = base::Context::Detached(absl::Seconds(2));
  while (staging.ok() && flock(staging->get(), LOCK_EX | LOCK_NB) != 0 && limit.Check().ok()) {
    poll(nullptr, 0, 5);
  }
  return outcome;
}

std::string TestDaemon::LayerPath(const PullOutcome& outcome, int index) const {
  const auto found = outcome.layers.find(index);
  return base::StrCat(staging(), "/",
                      found == outcome.layers.end() ? "missing" : found->second.directory);
}

}  // namespace imageservice::worker
