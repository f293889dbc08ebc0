// The start of a pull worker, up to the point where foreign bytes may come.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "imageservice/worker/archive_source.h"
#include "imageservice/worker/forker.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

// Forgoes new privileges and forks the forker: before the request with its secrets is read, and
// while the process has one thread.
absl::StatusOr<std::unique_ptr<Forker>> StartForker();

// The daemon's first message.
absl::StatusOr<PullRequest> ReceiveRequest(Channel* channel);

// Locks the staging directory for as long as a process of this worker holds it open, hands it to
// the forker and makes this process the network process: what it keeps is sockets, threads and a
// few files to read. A pull from an archive gets no network: it is left with that archive, opened
// as `archive`. Tells the daemon when the kernel cannot confine it as it should. The result is the
// lock.
absl::StatusOr<base::UniqueFd> BecomeNetworkProcess(
    const PullRequest& request, Forker* forker, Channel* channel,
    std::unique_ptr<ArchiveSource>* archive = nullptr);

}  // namespace imageservice::worker
