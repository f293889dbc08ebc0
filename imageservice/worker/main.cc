// crisp-pull: the sandboxed process of one pull. protocol.h says what it does.
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <memory>
#include <string_view>
#include <thread>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/archive_task.h"
#include "imageservice/worker/forker.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/pull.h"
#include "imageservice/worker/sandbox.h"
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
  std::unique_ptr<ArchiveSource> archive;
  ASSIGN_OR_RETURN(const base::UniqueFd lock,
                   BecomeNetworkProcess(*request, forker, channel, &archive));
  Pull pull(request, channel, forker, archive.get());
  const std::string what = base::StrCat("pull ", request->reference);
  std::thread([&] {
    const absl::StatusOr<Done> done = pull.Run();
    End(channel, done.ok() ? done : base::Annotate(done.status(), what));
  }).detach();
  End(channel, base::Annotate(ReceiveAnswers(channel, &pull), what));
}

// Lists or writes an archive. Without a daemon, which then cannot be told anything, it ends.
[[noreturn]] void ServeArchive(Channel* channel) {
  const auto send = [channel](const ArchiveReply& reply) {
    if (!channel->Send(base::Context(), EncodeArchive(reply)).ok()) {
      _exit(1);
    }
  };
  const absl::StatusOr<std::string> json = channel->Receive(base::Context());
  const absl::StatusOr<ArchiveRequest> request =
      json.ok() ? ParseArchiveRequest(*json) : json.status();
  const absl::Status status = request.ok() ? ForgoNewPrivileges() : request.status();
  const ArchiveReply reply =
      status.ok() ? RunArchiveRequest(*request, send) : ArchiveReply(Failed{status});
  send(reply);
  _exit(std::holds_alternative<Failed>(reply) ? 1 : 0);
}

}  // namespace
}  // namespace imageservice::worker

int main(int argc, char** argv) {
  namespace worker = imageservice::worker;
  signal(SIGPIPE, SIG_IGN);
  mallopt(M_ARENA_MAX, 1);
  worker::Channel channel{base::UniqueFd(worker::kWorkerSocket)};
  if (argc > 1 && std::string_view(argv[1]) == worker::kArchiveArgument) {
    worker::ServeArchive(&channel);
  }
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
