// crisp-pull with an archive: reading one in the place of a registry, listing one, writing one.
// Each process takes every right from itself but those on this archive before it reads a byte of
// it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "imageservice/worker/archive_protocol.h"
#include "imageservice/worker/archive_source.h"

namespace imageservice::worker {

// Opens the archive at `path`, a regular file or a directory, then confines the process to reading
// it. `warn` learns what the kernel lacks. The process has one thread and has forgone new
// privileges.
absl::StatusOr<std::unique_ptr<ArchiveSource>> OpenArchiveConfined(
    const std::string& path, const std::function<void(const Warning&)>& warn);

// Does what `request` asks for, in a process as above; `send` gets progress and warnings and is
// called by this thread only. The result is the last reply.
ArchiveReply RunArchiveRequest(const ArchiveRequest& request,
                               const std::function<void(const ArchiveReply&)>& send);

}  // namespace imageservice::worker
