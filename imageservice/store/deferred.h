// The privileged last steps on an unpacked layer, which the sandboxed unpacker only lists.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/context.h"
#include "imageservice/worker/protocol.h"

namespace imageservice {

// Does `operations` on the layer at `directory`, which lies on `lower`: the directories of the
// layers below, the topmost first. Every path is resolved beneath its layer without following
// symlinks or crossing mounts, so that an archive's names reach nothing else. (A symlink of a lower
// layer that stands where this one has an implied folder, or in the way to a hard link's target, is
// followed in the text, beneath the root, and the path it gives is resolved in the same way.) What
// lower layers show follows the rules of overlayfs: whiteouts and opaque directories hide.
// NOT_FOUND for a hard link without its target, and some other error for an operation that the
// layer's own content contradicts. An archive may ask for hundreds of thousands, each of which may
// look into every lower layer: the context's end is noticed between any two.
absl::Status ApplyDeferred(const base::Context& ctx, const std::string& directory,
                           const std::vector<std::string>& lower,
                           const std::vector<worker::DeferredOperation>& operations);

}  // namespace imageservice
