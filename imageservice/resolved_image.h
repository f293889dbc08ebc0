// What a pull worker resolved, held to its digests: the worker has spoken to strangers, so the
// daemon believes only what follows from the digest that was asked for.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "imageservice/oci_config.h"
#include "imageservice/worker/protocol.h"

namespace imageservice {

// An image whose documents belong together.
struct ResolvedImage {
  OciConfig config;                    // Of an artifact: its files' ArtifactDiffIds and no more.
  std::vector<std::string> chain_ids;  // Of the config's layers: 64 hexadecimal digits each.
  std::string artifact_type;           // Not empty: an artifact, whose layers have no parents.

  // The chain ID of the layer below the layer `index`, empty if there is none.
  std::string ParentOf(size_t index) const {
    return index == 0 || !artifact_type.empty() ? "" : chain_ids[index - 1];
  }
};

// Recomputes the digests on the way from the reference to the config: each index lists what comes
// after it, the manifest names the config, the config's SHA-256 is the image id; an artifact, whose
// files the manifest itself lists, has the manifest's. `wanted` is the
// digest that was asked for; empty: a tag, which may mean any document. INTERNAL for a worker that
// says what is not so, INVALID_ARGUMENT for documents that make no sense or have too many layers.
absl::StatusOr<ResolvedImage> VerifyResolved(const worker::Resolved& resolved,
                                             const std::string& wanted);

// The chain ID of a layer (OCI image-spec, config.md, "Layer ChainID"); `parent` is empty for the
// bottom layer. All are 64 hexadecimal digits.
std::string ChainIdOf(const std::string& parent, const std::string& diff_id);

// Whether `digest` ("sha256:…" or "sha512:…") is that of `text`.
bool HasDigest(std::string_view text, const std::string& digest);

// The error for a worker that does not keep to protocol.h.
absl::Status BrokenProtocol(std::string_view what);

}  // namespace imageservice
