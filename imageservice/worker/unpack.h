// Archive stream → directory: what TarReader reads, LayerTree builds.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "imageservice/worker/layer_tree.h"

namespace imageservice::worker {

// Unpacks the tar archive (ustar, PAX, GNU; OCI image-spec, layer.md) read from the descriptor
// `input` up to its EOF into the empty directory `root`. Bytes after the archive's end are read and
// dropped. An empty stream is an empty layer.
//
// INVALID_ARGUMENT for an archive that is damaged or asks for what no layer may, naming the entry;
// RESOURCE_EXHAUSTED for one with more than `max_entries` entries. What was unpacked by then stays.
// Sets the umask of the process to 0.
absl::StatusOr<LayerTree::Summary> UnpackLayer(int input, int root, uint64_t max_entries);

}  // namespace imageservice::worker
