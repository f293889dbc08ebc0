#include "imageservice/worker/startup.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/context.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/archive_task.h"
#include "imageservice/worker/sandbox.h"

namespace imageservice::worker {
namespace {

// Of the network process: much more than it needs, and what zstd's largest window takes.
constexpr uint64_t kMemory = uint64_t{1} << 30;
constexpr uint64_t kMemoryPerLayer = uint64_t{160} << 20;

absl::StatusOr<base::UniqueFd> LockStaging(const std::string& path) {
  ASSIGN_OR_RETURN(base::UniqueFd staging, base::Open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (flock(staging.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("lock ", path));
  }
  return staging;
}

}  // namespace

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

absl::StatusOr<base::UniqueFd> BecomeNetworkProcess(const PullRequest& request, Forker* forker,
                                                    Channel* channel,
                                                    std::unique_ptr<ArchiveSource>* archive) {
  ASSIGN_OR_RETURN(base::UniqueFd staging, LockStaging(request.staging_directory));
  RETURN_IF_ERROR(forker->Configure(staging.get(), request.limits));
  if (archive != nullptr && !request.archive.empty()) {
    ASSIGN_OR_RETURN(*archive, OpenArchiveConfined(request.archive, [&](const Warning& warning) {
      channel->Send(base::Context(), Encode(WorkerMessage(warning))).IgnoreError();
    }));
    return staging;
  }
  ASSIGN_OR_RETURN(const Landlock landlock, ConfineFiles(NetworkFiles(), {}));
  if (landlock == Landlock::kMissing) {
    const Warning warning{
        "the kernel has no Landlock: pulls are confined by capabilities, system "
        "calls and chroot only"};
    RETURN_IF_ERROR(channel->Send(base::Context(), Encode(WorkerMessage(warning))));
  }
  RETURN_IF_ERROR(DropCapabilities(Role::kNetwork));
  const auto layers = static_cast<uint64_t>(std::max(1, request.limits.max_parallel_layers));
  RETURN_IF_ERROR(LimitMemory(kMemory + layers * kMemoryPerLayer));
  RETURN_IF_ERROR(FilterSystemCalls(Role::kNetwork));
  return staging;
}

}  // namespace imageservice::worker
