// One layer in one pass: downloaded bytes → hash → inflate → verifier. No blob is kept.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageservice/worker/forker.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

// Where compressed bytes come from: fills the string, false at the end (HttpResponse::Read).
using ByteSource = std::function<absl::StatusOr<bool>(std::string*)>;

// What to do with the bytes of a blob before they go to the verifier.
enum class BlobForm {
  kLayer,  // An archive, compressed or not.
  kFile,   // Nothing: it is an artifact's file.
};

// Streams `layer` from `source` into `process`, adding compressed bytes to `progress` and, at any
// end, the time it took to `stages`. It succeeds when the verdict is sent and size, digest and diff
// ID are right.
//
// A fault is put where it belongs: while the blob's own digest is not known to be right, the blame
// for damaged data is on the transfer. UNAVAILABLE: the transfer broke. DATA_LOSS: other bytes than
// the manifest promises. INVALID_ARGUMENT: the promised bytes are no good layer.
// RESOURCE_EXHAUSTED: a limit.
absl::StatusOr<LayerDone> StreamLayer(const LayerQuestion& layer, BlobForm form,
                                      const Limits& limits, const ByteSource& source,
                                      LayerProcess process, std::atomic<uint64_t>* progress,
                                      Stages* stages);

}  // namespace imageservice::worker
