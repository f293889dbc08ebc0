// The process that starts the processes of each layer: verifier and parser.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "imageservice/worker/artifact.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

// A layer's verifier and parser, from outside.
struct LayerProcess {
  std::string directory;   // Of the layer in the staging directory.
  base::UniqueFd archive;  // Write the archive (or file) here and close it.
  base::UniqueFd result;   // For ReadResult.
};

// Forks itself once, before the worker has threads, because only a process with one thread may fork
// and go on, and before the worker knows a secret, because its children know what it knew.
class Forker {
 public:
  // Forks it. It takes over kVerdictSocket, which the caller loses, and dies with the calling
  // thread, and its children with it. The caller must be single-threaded and have forgone new
  // privileges.
  static absl::StatusOr<std::unique_ptr<Forker>> Start();

  // What the layers of this pull have in common, told once. From then on the forker and its
  // children write only beneath `staging`, which they hold open.
  absl::Status Configure(int staging, const Limits& limits);

  // Starts the processes that unpack into the new folder `directory` of the staging directory.
  // Thread-safe. When too many run already, they start once one has ended.
  absl::StatusOr<LayerProcess> StartLayer(const std::string& directory);

  // The same for a blob that becomes one file and not a tree: the verdict's diff ID will be its
  // ArtifactDiffId. What is to be written into LayerProcess::archive is the blob.
  absl::StatusOr<LayerProcess> StartFile(const std::string& directory, const ArtifactFile& file);

 private:
  absl::StatusOr<LayerProcess> Start(const std::string& order, const std::string& directory);
  explicit Forker(base::UniqueFd socket) : socket_(std::move(socket)) {}

  const base::UniqueFd socket_;
};

// Ends the archive and waits for the verifier's answer; once. Verified: the verdict is on its way
// to the daemon. The errors are the parser's own, RESOURCE_EXHAUSTED for an archive too large, and
// INTERNAL when either process died without a word.
absl::StatusOr<Verified> ReadResult(LayerProcess* layer);

}  // namespace imageservice::worker
