// Images → archive: what a save request asks for.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "imageservice/worker/archive_output.h"
#include "imageservice/worker/archive_protocol.h"

namespace imageservice::worker {

// Writes the images of `request` to `output`, an OCI layout whatever the format (image-layout.md),
// with docker's manifest.json beside it for a docker archive. The same images
// always give the same bytes.
//
// Layers are archived anew, so that their diff IDs and with them manifest and config are those of
// what is written; the config is otherwise the stored one. `progress` is called with the bytes of
// layers so far. The errors are the file system's; INVALID_ARGUMENT for a config that makes no
// sense.
absl::StatusOr<SavedArchive> WriteArchive(const SaveRequest& request, ArchiveOutput* output,
                                          const std::function<void(uint64_t)>& progress);

}  // namespace imageservice::worker
