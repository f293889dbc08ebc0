// OCI artifacts (OCI image-spec, manifest.md, "Guidelines for Artifact Usage"): which manifests are
// some, and what tree their blobs make. The daemon reads a manifest as its worker does, and
// believes its own reading.
//
// Each blob of an artifact is one file, and each file a layer of its own that stands on no other:
// the artifact's tree is what an overlay of them shows. A blob's name is its title, which is
// foreign text, made safe here and refused where that is impossible.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/json.h"

namespace imageservice::worker {

inline constexpr size_t kMaxArtifactNameBytes = 1024;  // Of a whole path.
inline constexpr size_t kMaxArtifactNameDepth = 32;    // Its components,
inline constexpr size_t kMaxFileNameBytes = 255;       // and the bytes of each (NAME_MAX).
inline constexpr size_t kMaxArtifactTypeBytes = 255;   // RFC 6838, section 4.2, allows 127/127.

// A blob of an artifact as a file.
struct ArtifactFile {
  std::string name;    // Its path in the tree, as CleanArtifactName returns it.
  std::string digest;  // Of the blob and so of the file's content: "sha256:…" or "sha512:…".
};

// Whether `media_type` is that of an image's layer (OCI image-spec, layer.md; Docker's schema 2).
bool IsImageLayerType(std::string_view media_type);

// The type of the artifact that `manifest` describes: its artifactType, else its config's media
// type. Empty for a manifest that names neither, and for an image: config and layers have an
// image's media types, whatever else it calls itself. INVALID_ARGUMENT for members of wrong types
// and for a type too long or with other characters than printable ones of ASCII.
absl::StatusOr<std::string> ArtifactTypeOf(const base::Json& manifest);

// The files of an artifact, one for each entry of `layers`, in that order. One that stands for
// nothing (the empty descriptor that an artifact without blobs has) has no name. A file is called
// by the annotation org.opencontainers.image.title, else org.cncf.model.filepath, else
// "<algorithm>-<hex>" after its digest. INVALID_ARGUMENT, naming the blob, for a name that
// CleanArtifactName refuses and for two files of one name or one within another; also for more than
// kMaxLayers blobs.
absl::StatusOr<std::vector<ArtifactFile>> ParseArtifactFiles(const base::Json& manifest);

// The name as a relative path without "." and empty components. INVALID_ARGUMENT for one that is
// empty, absolute, has a ".." or a NUL or is beyond the limits above.
absl::StatusOr<std::string> CleanArtifactName(std::string_view name);

// What stands for a diff ID of the layer that a file makes, and is its chain ID too: 64 hexadecimal
// digits that depend on content and name. It is the digest of a text too short to be an archive
// with any entry, so that no layer of an image has the same.
std::string ArtifactDiffId(const ArtifactFile& file);

}  // namespace imageservice::worker
