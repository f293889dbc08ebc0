// One layer in one pass: downloaded bytes → hash → inflate → hash → parser. No blob is kept.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageservice/worker/parser_process.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

// Where compressed bytes come from: fills the string, false at the end (HttpResponse::Read).
using ByteSource = std::function<absl::StatusOr<bool>(std::string*)>;

// Streams `layer` from `source` into `parser`, adding compressed bytes to `progress`. It succeeds
// when the parser has succeeded and ended and size, digest and diff ID are right.
//
// A fault is put where it belongs: while the blob's own digest is not known to be right, the blame
// for damaged data is on the transfer. UNAVAILABLE: the transfer broke. DATA_LOSS: other bytes than
// the manifest promises. INVALID_ARGUMENT: the promised bytes are no good layer.
// RESOURCE_EXHAUSTED: a limit.
absl::StatusOr<LayerDone> StreamLayer(const LayerQuestion& layer, const Limits& limits,
                                      const ByteSource& source, ParserProcess parser,
                                      std::atomic<uint64_t>* progress);

}  // namespace imageservice::worker
