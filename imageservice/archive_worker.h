// One question about an archive, answered by a worker of its own (worker/archive_protocol.h).
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "imageservice/pull_session.h"
#include "imageservice/worker/archive_protocol.h"

namespace imageservice {

// Starts a worker, which reads or writes the archive, and waits for its last reply: a listing or
// what was saved. `report` hears of progress, on this thread. The context's end kills the worker.
// Errors are the worker's own; INTERNAL when it breaks the protocol or dies.
absl::StatusOr<worker::ArchiveReply> AskArchiveWorker(
    const base::Context& ctx, const PullEnvironment& environment,
    const worker::ArchiveRequest& request,
    const std::function<void(const worker::Progress&)>& report);

}  // namespace imageservice
