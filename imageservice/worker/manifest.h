// Indexes, manifests and configs (OCI image-spec; Docker's schema 2, which differs in media types
// only): parsers of foreign documents, and the choice of a platform.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

// A reference to content. The digest is well-formed and the size not negative.
struct Descriptor {
  std::string media_type;
  std::string digest;
  uint64_t size = 0;
  std::optional<Platform> platform;  // In an index.
  bool is_zstd = false;              // In an index: the variant of an image compressed by zstd.
  std::string artifact_type;         // In an index: of an artifact, which is no image.
  std::string file_name;             // Of an artifact's blob: ArtifactFile::name.
  std::vector<std::string> urls;     // Of a foreign layer: where else it may be.
  std::string data;                  // The content itself, of the right size but not verified;
                                     // empty: not there.
};

struct Index {
  std::vector<Descriptor> manifests;
};

struct Manifest {
  std::string media_type;     // Its own.
  std::string artifact_type;  // Not empty: of an artifact (ArtifactTypeOf).
  Descriptor config;
  std::vector<Descriptor> layers;  // Bottom layer first; of an artifact the blobs that are files.
};

// The document in `body`; its members, its `mediaType` and `content_type` must not contradict each
// other. INVALID_ARGUMENT for what is malformed, ambiguous (both an index and a manifest), of
// schema 1, or has a layer of an unknown type though it is an image; for an artifact also what
// ParseArtifactFiles says. FAILED_PRECONDITION for what is neither an image nor an artifact.
absl::StatusOr<std::variant<Index, Manifest>> ParseManifest(std::string_view body,
                                                            std::string_view content_type);

// The part of an image's config a pull needs.
struct ImageConfig {
  Platform platform;
  std::vector<std::string> diff_ids;  // 64 hexadecimal digits each, bottom layer first.
};
absl::StatusOr<ImageConfig> ParseImageConfig(std::string_view body);

// How well an image for `offered` runs on `wanted`: 0 is best, nullopt not at all.
std::optional<int> PlatformRank(const Platform& wanted, const Platform& offered);

// The entry of `index` to pull: best platform first, then zstd, then the earlier. Entries without a
// platform are the last resort, attestations none. Entries that say they are artifacts count when
// the index has no images, by their platform, if they have one. NOT_FOUND naming the platforms
// otherwise.
absl::StatusOr<Descriptor> ChooseManifest(const Index& index, const Platform& wanted);

// FAILED_PRECONDITION when the config of an image says another system or architecture than
// `wanted`. An empty one says nothing; variants are not compared: a config's is seldom right.
absl::Status CheckPlatform(const Platform& wanted, const Platform& offered);

// "linux/arm64/v8".
std::string PlatformName(const Platform& platform);

}  // namespace imageservice::worker
