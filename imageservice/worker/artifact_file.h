// A blob of an artifact → the one file of its layer; beside unpack.h, which is for archives.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "imageservice/worker/layer_tree.h"

namespace imageservice::worker {

// Writes what the descriptor `input` gives until its EOF, byte for byte, into the file `name` (see
// CleanArtifactName) of the empty directory `root`, with the folders it needs: all of root's, files
// 0644 and folders 0755, last changed at the epoch, so that the same blob always gives the same
// tree. Sets the umask of the process to 0.
absl::StatusOr<LayerTree::Summary> WriteArtifactFile(int input, int root, const std::string& name);

}  // namespace imageservice::worker
