// crisp-pull: the sandboxed process of one pull. protocol.h says what it does.
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <thread>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/forker.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/pull.h"
#include "imageservice/worker/sandbox.h"

namespace imageservice::worker {
namespace {

constexpr uint64_t kMemory = uint64_t{2}
                             << 30;  // Of the network process: zstd takes up to 128 MiB a layer.

absl::Status Send(Channel* channel, const WorkerMessage& message) {
  return channel->Send(base::Context(), Encode(message));
}

// Before the request with its secrets is read, and before anything that can fail in a foreign way.
absl::StatusOr<std::unique_ptr<Forker>> StartForker() {
  RETURN_IF_ERROR(ForgoNewPrivileges());
  return Forker::Start();
}

absl::StatusOr<PullRequest> ReceiveRequest(Channel* channel) {
  ASSIGN_OR_RETURN(const std::string json, channel->Receive(base::Context()));
  ASSIGN_OR_RETURN(DaemonMessage message, ParseDaemonMessage(json));
  if (auto* request = std::get_if<PullRequest>(&message)) {
    return std::move(*request);
  }
  return absl::InvalidArgumentError("the first message is no request");
}

// The staging directory, locked for as long as a process of this worker holds it open.
absl::StatusOr<base::UniqueFd> LockStaging(const std::string& path) {
  ASSIGN_OR_RETURN(base::UniqueFd staging, base::Open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (flock(staging.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("lock ", path));
  }
  return staging;
}

// What is left after the forker took the right to write: sockets, threads and a few files to read.
absl::Status ConfineNetwork(Channel* channel) {
  ASSIGN_OR_RETURN(const Landlock landlock, ConfineFiles(NetworkFiles(), {}));
  if (landlock == Landlock::kMissing) {
    RETURN_IF_ERROR(Send(channel, Warning{"the kernel has no Landlock: pulls are confined by "
                                          "capabilities and system calls only"}));
  }
  RETURN_IF_ERROR(DropCapabilities(Role::kNetwork));
  RETURN_IF_ERROR(LimitMemory(kMemory));
  return FilterSystemCalls(Role::kNetwork);
}

// Hands the daemon's answers to `pull` until the daemon closes its end.
absl::Status ReceiveAnswers(Channel* channel, Pull* pull) {
  for (;;) {
    ASSIGN_OR_RETURN(const std::string json, channel->Receive(base::Context()));
    ASSIGN_OR_RETURN(const DaemonMessage message, ParseDaemonMessage(json));
    if (const auto* answer = std::get_if<LayerAnswer>(&message)) {
      RETURN_IF_ERROR(pull->Answer(*answer));
    } else if (std::get_if<PullRequest>(&message) != nullptr) {
      return absl::InvalidArgumentError("a second request");
    }
  }
}

// Says how it ended and ends the process, whatever other threads are doing.
[[noreturn]] void End(Channel* channel, const absl::Status& status) {
  const WorkerMessage last = status.ok() ? WorkerMessage(Done()) : WorkerMessage(Failed{status});
  const bool is_told = Send(channel, last).ok();
  _exit(status.ok() && is_told ? 0 : 1);
}

absl::Status Run(Channel* channel, PullRequest* request, Forker* forker) {
  ASSIGN_OR_RETURN(const base::UniqueFd staging, LockStaging(request->staging_directory));
  RETURN_IF_ERROR(forker->Configure(staging.get(), request->limits));
  RETURN_IF_ERROR(ConfineNetwork(channel));
  Pull pull(request, channel, forker);
  const std::string what = base::StrCat("pull ", request->reference);
  std::thread([&] { End(channel, base::Annotate(pull.Run(), what)); }).detach();
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
