// From a reference to verified documents: which manifest, which config, which layers.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "imageservice/worker/content_source.h"
#include "imageservice/worker/manifest.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/registry/client.h"

namespace imageservice::worker {

// An image that is known but not here.
struct ResolvedImage {
  Resolved documents;
  std::vector<LayerQuestion> layers;  // Bottom layer first.
  std::vector<Descriptor> blobs;      // Of the layers.
};

// Asks those endpoints of `request` in order that may be asked what a tag means; a digest may be
// asked for everywhere. What the answer leads to, by digest, comes from any endpoint that may be
// asked for content. The error, if no endpoint leads to an image, names each with its reason; codes
// are those of EndpointFailures.
absl::StatusOr<ResolvedImage> ResolveImage(RegistryClient* client, const PullRequest& request);

// The image `request.tag` of an archive's listing.
absl::StatusOr<ResolvedImage> ResolveFromArchive(ContentSource* archive,
                                                 const PullRequest& request);

// Whether `bytes`, which came with the descriptor, are what it describes.
bool IsContentOf(std::string_view bytes, const Descriptor& descriptor);

}  // namespace imageservice::worker
