#include "imageservice/worker/resolve.h"

#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"

namespace imageservice::worker {
namespace {

constexpr int kMaxIndexDepth = 4;

// The manifest for our platform, through as many indexes as lie before it.
struct FoundManifest {
  Document document;
  Manifest manifest;
  std::string index_digest;
  std::vector<std::string> indexes;
};

absl::StatusOr<FoundManifest> FindManifest(RegistryClient* client, const PullRequest& request,
                                           int endpoint) {
  FoundManifest found;
  std::string reference = request.digest.empty() ? request.tag : request.digest;
  for (int depth = 0; depth <= kMaxIndexDepth; ++depth) {
    ASSIGN_OR_RETURN(found.document, client->GetManifest(endpoint, reference));
    absl::StatusOr<std::variant<Index, Manifest>> parsed =
        ParseManifest(found.document.body, found.document.media_type);
    if (!parsed.ok()) {
      return base::Annotate(parsed.status(), base::StrCat("manifest ", found.document.digest));
    }
    if (auto* manifest = std::get_if<Manifest>(&*parsed)) {
      found.manifest = std::move(*manifest);
      return found;
    }
    if (found.index_digest.empty()) {
      found.index_digest = found.document.digest;
    }
    ASSIGN_OR_RETURN(const Descriptor chosen,
                     ChooseManifest(std::get<Index>(*parsed), request.platform));
    reference = chosen.digest;
    found.indexes.push_back(std::move(found.document.body));
  }
  return absl::InvalidArgumentError(
      base::StrCat("indexes are nested more than ", kMaxIndexDepth, " deep"));
}

absl::StatusOr<std::vector<LayerQuestion>> ListLayers(const Manifest& manifest,
                                                      const ImageConfig& config) {
  if (manifest.layers.size() != config.diff_ids.size()) {
    return absl::InvalidArgumentError(base::StrCat("the manifest has ", manifest.layers.size(),
                                                   " layers and the config ",
                                                   config.diff_ids.size()));
  }
  std::vector<LayerQuestion> layers;
  std::string parent;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    LayerQuestion layer;
    layer.index = static_cast<int>(i);
    layer.parent = parent;
    layer.diff_id = config.diff_ids[i];
    layer.chain_id = ChainId(parent, layer.diff_id);
    layer.digest = manifest.layers[i].digest;
    layer.size = manifest.layers[i].size;
    parent = layer.chain_id;
    layers.push_back(std::move(layer));
  }
  return layers;
}

absl::StatusOr<ResolvedImage> ResolveAt(RegistryClient* client, const PullRequest& request,
                                        int endpoint) {
  ASSIGN_OR_RETURN(FoundManifest found, FindManifest(client, request, endpoint));
  const Descriptor& descriptor = found.manifest.config;
  ASSIGN_OR_RETURN(std::string body,
                   client->GetSmallBlob(endpoint, descriptor.digest, kMaxConfigBytes));
  if (body.size() != descriptor.size) {
    return absl::DataLossError(base::StrCat("config ", descriptor.digest, " has ", body.size(),
                                            " bytes instead of ", descriptor.size));
  }
  const absl::StatusOr<ImageConfig> config = ParseImageConfig(body);
  if (!config.ok()) {
    return base::Annotate(config.status(), base::StrCat("config ", descriptor.digest));
  }
  RETURN_IF_ERROR(CheckPlatform(request.platform, config->platform));
  ResolvedImage image;
  ASSIGN_OR_RETURN(image.layers, ListLayers(found.manifest, *config));
  image.documents.manifest_digest = found.document.digest;
  image.documents.index_digest = std::move(found.index_digest);
  image.documents.indexes = std::move(found.indexes);
  image.documents.media_type = std::move(found.manifest.media_type);
  image.documents.manifest = std::move(found.document.body);
  image.documents.image_id = Sha256Hex(body);
  image.documents.config = std::move(body);
  image.documents.endpoint = endpoint;
  return image;
}

}  // namespace

absl::StatusOr<ResolvedImage> ResolveImage(RegistryClient* client, const PullRequest& request) {
  if (request.endpoints.empty()) {
    return absl::InvalidArgumentError("no endpoint to pull from");
  }
  std::string reasons;
  absl::StatusCode code = absl::StatusCode::kUnknown;
  for (size_t i = 0; i < request.endpoints.size(); ++i) {
    absl::StatusOr<ResolvedImage> image = ResolveAt(client, request, static_cast<int>(i));
    if (image.ok()) {
      return image;
    }
    code = image.status().code();
    reasons +=
        base::StrCat(reasons.empty() ? "" : "; ", PrintableUrl(request.endpoints[i].base_url), ": ",
                     base::ToStd(image.status().message()));
  }
  return absl::Status(code, reasons);
}

}  // namespace imageservice::worker
