#include "imageservice/archive_worker.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>
#include <variant>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "imageservice/resolved_image.h"

namespace imageservice {
namespace {

// A worker that does not read its socket for so long is broken.
constexpr absl::Duration kSendTimeout = absl::Seconds(30);

absl::StatusOr<base::Subprocess> StartWorker(const PullEnvironment& environment, int socket) {
  base::Command command;
  command.argv = {environment.worker_path, worker::kArchiveArgument};
  command.directory = "/";
  command.stderr_fd = STDERR_FILENO;  // A crash's last words.
  command.extra_fds = {{worker::kWorkerSocket, socket}};
  return base::Subprocess::Spawn(environment.launcher->Wrap(
      std::move(command), {.cgroup = environment.worker_cgroup,
                           .all_hierarchies = !environment.worker_cgroup.empty()}));
}

}  // namespace

absl::StatusOr<worker::ArchiveReply> AskArchiveWorker(
    const base::Context& ctx, const PullEnvironment& environment,
    const worker::ArchiveRequest& request,
    const std::function<void(const worker::Progress&)>& report) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::ErrnoStatus(errno, "make a socket pair");
  }
  worker::Channel channel{base::UniqueFd(ends[0])};
  base::UniqueFd theirs(ends[1]);
  // Killed when this returns.
  ASSIGN_OR_RETURN(const base::Subprocess process, StartWorker(environment, theirs.get()));
  theirs.Reset();
  // A worker that is gone may have said why before.
  channel.Send(ctx.WithTimeout(kSendTimeout), worker::EncodeArchive(request)).IgnoreError();
  for (;;) {
    const absl::StatusOr<std::string> json = channel.Receive(ctx);
    RETURN_IF_ERROR(ctx.Check());
    if (!json.ok()) {
      return absl::InternalError(base::StrCat("the archive's worker ended without a word: ",
                                              base::ToStd(json.status().message())));
    }
    absl::StatusOr<worker::ArchiveReply> reply = worker::ParseArchiveReply(*json);
    if (!reply.ok()) {
      return BrokenProtocol(base::ToStd(reply.status().message()));
    }
    if (const auto* progress = std::get_if<worker::Progress>(&*reply)) {
      report(*progress);
    } else if (const auto* warning = std::get_if<worker::Warning>(&*reply)) {
      base::LogWarning(warning->message);
    } else if (const auto* failed = std::get_if<worker::Failed>(&*reply)) {
      return failed->status;
    } else {
      return reply;
    }
  }
}

}  // namespace imageservice
