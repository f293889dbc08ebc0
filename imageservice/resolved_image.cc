#include "imageservice/resolved_image.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "base/sha.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/reference.h"
#include "imageservice/worker/artifact.h"

namespace imageservice {
namespace {

// The digest in `document`'s member `name`, a descriptor.
absl::StatusOr<std::string> DescriptorDigest(const base::Json& document, std::string_view name) {
  ASSIGN_OR_RETURN(std::string digest,
                   base::JsonString(base::JsonMember(document, name), "digest"));
  if (!IsDigest(digest)) {
    return absl::InvalidArgumentError(base::StrCat("the manifest's ", name, " has no digest"));
  }
  return digest;
}

absl::StatusOr<bool> Lists(const std::string& index, const std::string& digest) {
  ASSIGN_OR_RETURN(const base::Json document, base::ParseJson(index));
  for (const base::Json& entry : base::JsonMember(document, "manifests")) {
    const absl::StatusOr<std::string> listed = base::JsonString(entry, "digest");
    if (listed.ok() && *listed == digest) {
      return true;
    }
  }
  return false;
}

absl::Status VerifyIndexes(const worker::Resolved& resolved) {
  if (resolved.indexes.empty() != resolved.index_digest.empty()) {
    return BrokenProtocol("an index without its digest");
  }
  std::string digest = resolved.index_digest;
  for (size_t i = 0; i < resolved.indexes.size(); ++i) {
    if (!HasDigest(resolved.indexes[i], digest)) {
      return BrokenProtocol("an index of another digest");
    }
    const bool is_last = i + 1 == resolved.indexes.size();
    // The next one's digest is not said: it is what it is listed by.
    digest = is_last ? resolved.manifest_digest
                     : base::StrCat("sha256:", base::Sha256Hex(resolved.indexes[i + 1]));
    absl::StatusOr<bool> is_listed = Lists(resolved.indexes[i], digest);
    if (is_listed.ok() && !*is_listed && !is_last) {
      digest = base::StrCat("sha512:", base::Sha512Hex(resolved.indexes[i + 1]));
      is_listed = Lists(resolved.indexes[i], digest);
    }
    RETURN_IF_ERROR(is_listed.status());
    if (!*is_listed) {
      return BrokenProtocol("a manifest that its index does not list");
    }
  }
  return absl::OkStatus();
}

absl::Status ListLayers(const std::string& config, ResolvedImage* image) {
  ASSIGN_OR_RETURN(image->config, ParseOciConfig(config));
  const std::vector<std::string>& diff_ids = image->config.diff_ids;
  if (diff_ids.size() > worker::kMaxLayers) {
    return absl::InvalidArgumentError(
        base::StrCat("the image has ", diff_ids.size(), " layers, more than ", worker::kMaxLayers));
  }
  std::string parent;
  for (const std::string& diff_id : diff_ids) {
    parent = ChainIdOf(parent, diff_id);
    image->chain_ids.push_back(parent);
  }
  return absl::OkStatus();
}

absl::Status ListFiles(const base::Json& manifest, ResolvedImage* image) {
  ASSIGN_OR_RETURN(const std::vector<worker::ArtifactFile> files,
                   worker::ParseArtifactFiles(manifest));
  for (const worker::ArtifactFile& file : files) {
    if (file.name.empty()) {
      continue;
    }
    if (!IsDigest(file.digest)) {
      return absl::InvalidArgumentError("a blob of the artifact has no digest");
    }
    image->config.diff_ids.push_back(worker::ArtifactDiffId(file));
  }
  image->chain_ids = image->config.diff_ids;
  return absl::OkStatus();
}

// Fills in what the documents make.
absl::Status VerifyManifest(const worker::Resolved& resolved, ResolvedImage* image) {
  if (!HasDigest(resolved.manifest, resolved.manifest_digest)) {
    return BrokenProtocol("a manifest of another digest");
  }
  ASSIGN_OR_RETURN(const base::Json manifest, base::ParseJson(resolved.manifest));
  ASSIGN_OR_RETURN(const std::string config, DescriptorDigest(manifest, "config"));
  if (!HasDigest(resolved.config, config)) {
    return BrokenProtocol("a config that is not the manifest's");
  }
  ASSIGN_OR_RETURN(image->artifact_type, worker::ArtifactTypeOf(manifest));
  const bool is_artifact = !image->artifact_type.empty();
  if (base::Sha256Hex(is_artifact ? resolved.manifest : resolved.config) != resolved.image_id) {
    return BrokenProtocol("a config that is not the image's");
  }
  return is_artifact ? ListFiles(manifest, image) : ListLayers(resolved.config, image);
}

}  // namespace

absl::StatusOr<ResolvedImage> VerifyResolved(const worker::Resolved& resolved,
                                             const std::string& wanted) {
  const std::string& found =
      resolved.index_digest.empty() ? resolved.manifest_digest : resolved.index_digest;
  if (!wanted.empty() && wanted != found) {
    return BrokenProtocol("a manifest of another digest than asked for");
  }
  RETURN_IF_ERROR(VerifyIndexes(resolved));
  ResolvedImage image;
  RETURN_IF_ERROR(VerifyManifest(resolved, &image));
  return image;
}

std::string ChainIdOf(const std::string& parent, const std::string& diff_id) {
  return parent.empty() ? diff_id
                        : base::Sha256Hex(base::StrCat("sha256:", parent, " sha256:", diff_id));
}

bool HasDigest(std::string_view text, const std::string& digest) {
  if (digest.starts_with("sha256:")) {
    return digest.substr(7) == base::Sha256Hex(text);
  }
  return digest.starts_with("sha512:") && digest.substr(7) == base::Sha512Hex(text);
}

absl::Status BrokenProtocol(std::string_view what) {
  return absl::InternalError(base::StrCat("the pull worker broke the protocol: ", what));
}

}  // namespace imageservice
