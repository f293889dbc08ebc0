// The privileged last steps on an unpacked layer, which the sandboxed unpacker only lists.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/context.h"
#include "imageservice/worker/protocol.h"

namespace imageservice {

// Of one layer: about a minute. Twenty thousand hard links into an image whose five hundred layers
// all have their folder take some twelve million.
inline constexpr uint64_t kMaxDeferredLookups = 20'000'000;

// Does `operations` on the layer at `directory`, which lies on `lower`: the directories of the
// layers below, the topmost first. Every path is resolved beneath its layer without following
// symlinks or crossing mounts, so that an archive's names reach nothing else. (A symlink of a lower
// layer that stands where this one has an implied folder, or in the way to a hard link's target, is
// followed in the text, beneath the root, and the path it gives is resolved in the same way.) What
// lower layers show follows the rules of overlayfs: whiteouts and opaque directories hide.
// NOT_FOUND for a hard link without its target, and some other error for an operation that the
// layer's own content contradicts. An archive may ask for many, each of which may look into every
// lower layer: RESOURCE_EXHAUSTED once they have taken `max_lookups` lookups in directories
// together, and the context's end is noticed between any two.
absl::Status ApplyDeferred(const base::Context& ctx, const std::string& directory,
                           const std::vector<std::string>& lower,
                           const std::vector<worker::DeferredOperation>& operations,
                           uint64_t max_lookups = kMaxDeferredLookups);

}  // namespace imageservice
