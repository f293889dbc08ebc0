// crisp-pull: the sandboxed process of one pull. protocol.h says what it does.
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <memory>
#include <thread>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/forker.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/pull.h"
#include "imageservice/worker/startup.h"

namespace imageservice::worker {
namespace {

absl::Status Send(Channel* channel, const WorkerMessage& message) {
  return channel->Send(base::Context(), Encode(message));
}

// Hands the daemon's answers to `pull` until the daemon closes its end.
absl::Status ReceiveAnswers(Channel* channel, Pull* pull) {
  for (;;) {
    ASSIGN_OR_RETURN(const std::string json, channel->Receive(base::Context()));
    ASSIGN_OR_RETURN(const DaemonMessage message, ParseDaemonMessage(json));
    if (const auto* answer = std::get_if<LayerAnswer>(&message)) {
      RETURN_IF_ERROR(pull->Answer(*answer));
    } else if (std::get_if<Resume>(&message) != nullptr) {
      pull->GoOn();
    } else if (std::get_if<PullRequest>(&message) != nullptr) {
      return absl::InvalidArgumentError("a second request");
    }
  }
}

// Says how it ended and ends the process, whatever other threads are doing.
[[noreturn]] void End(Channel* channel, const absl::StatusOr<Done>& result) {
  const WorkerMessage last =
      result.ok() ? WorkerMessage(*result) : WorkerMessage(Failed{result.status()});
  const bool is_told = Send(channel, last).ok();
  _exit(result.ok() && is_told ? 0 : 1);
}

absl::Status Run(Channel* channel, PullRequest* request, Forker* forker) {
  ASSIGN_OR_RETURN(const base::UniqueFd lock, BecomeNetworkProcess(*request, forker, channel));
  Pull pull(request, channel, forker);
  const std::string what = base::StrCat("pull ", request->reference);
  std::thread([&] {
    const absl::StatusOr<Done> done = pull.Run();
    End(channel, done.ok() ? done : base::Annotate(done.status(), what));
  }).detach();
  End(channel, base::Annotate(ReceiveAnswers(channel, &pull), what));
}

}  // namespace
}  // namespace imageservice::worker

int main() {
  namespace worker = imageservice::worker;
  signal(SIGPIPE, SIG_IGN);
  mallopt(M_ARENA_MAX, 1);
  worker::Channel channel{base::UniqueFd(worker::kWorkerSocket)};
  absl::StatusOr<std::unique_ptr<worker::Forker>> forker = worker::StartForker();
  if (!forker.ok()) {
    worker::End(&channel, forker.status());
  }
  absl::StatusOr<worker::PullRequest> request = worker::ReceiveRequest(&channel);
  if (!request.ok()) {
    worker::End(&channel, request.status());
  }
  worker::End(&channel, base::Annotate(worker::Run(&channel, &*request, forker->get()),
                                       base::StrCat("pull ", request->reference)));
}
