// From a reference to verified documents: which manifest, which config, which layers.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "imageservice/worker/manifest.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/registry/client.h"

namespace imageservice::worker {

// An image that is known but not here.
struct ResolvedImage {
  Resolved documents;
  std::vector<LayerQuestion> layers;  // Bottom layer first.
};

// Asks the endpoints of `request` in order; the first that has the whole set of documents wins. The
// error, if none has, names each endpoint with its reason and has the code of the last one's.
absl::StatusOr<ResolvedImage> ResolveImage(RegistryClient* client, const PullRequest& request);

}  // namespace imageservice::worker
