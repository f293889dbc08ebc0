#include "imageservice/worker/resolve.h"

#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/artifact.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/registry/endpoint_failures.h"

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

// Asks the endpoints that have content, in turn, until one succeeds. Errors name each.
template <typename Ask>
auto FromAnywhere(RegistryClient* client, const Ask& ask) -> decltype(ask(0, Persistence::kFull)) {
  EndpointFailures failures;
  const std::vector<int> endpoints = client->ContentEndpoints();
  for (const int endpoint : endpoints) {
    if (!client->MayAsk(endpoint)) {
      continue;
    }
    auto answer =
        ask(endpoint, endpoint == endpoints.back() ? Persistence::kFull : Persistence::kBrief);
    if (answer.ok()) {
      return answer;
    }
    client->NoteResult(endpoint, false);
    failures.Add(client->Name(endpoint), answer.status());
  }
  return failures.empty() ? absl::FailedPreconditionError("no endpoint may be asked for content")
                          : failures.Combined();
}

// The content behind a reference, from whichever endpoint has it.
class RegistryContent final : public ContentSource {
 public:
  explicit RegistryContent(RegistryClient* client) : client_(client) {}

  absl::StatusOr<Document> GetManifest(const std::string& reference) override {
    return FromAnywhere(client_, [&](int endpoint, Persistence persistence) {
      return client_->GetManifest(endpoint, reference, persistence);
    });
  }
  absl::StatusOr<std::string> GetSmallBlob(const std::string& digest, size_t max_bytes) override {
    return FromAnywhere(client_, [&](int endpoint, Persistence persistence) {
      return client_->GetSmallBlob(endpoint, digest, max_bytes, persistence);
    });
  }

 private:
  RegistryClient* const client_;
};

// `root` is what the reference means; `where` it came from.
absl::StatusOr<FoundManifest> FindManifest(ContentSource* content, const PullRequest& request,
                                           Document root, const std::string& where) {
  FoundManifest found;
  found.document = std::move(root);
  for (int depth = 0; depth <= kMaxIndexDepth; ++depth) {
    absl::StatusOr<std::variant<Index, Manifest>> parsed =
        ParseManifest(found.document.body, found.document.media_type);
    if (!parsed.ok()) {
      return base::Annotate(parsed.status(),
                            base::StrCat(where, ": manifest ", found.document.digest));
    }
    if (auto* manifest = std::get_if<Manifest>(&*parsed)) {
      found.manifest = std::move(*manifest);
      return found;
    }
    const absl::StatusOr<Descriptor> chosen =
        ChooseManifest(std::get<Index>(*parsed), request.platform);
    if (!chosen.ok()) {
      return base::Annotate(chosen.status(), where);
    }
    if (found.index_digest.empty()) {
      found.index_digest = found.document.digest;
    }
    found.indexes.push_back(std::move(found.document.body));
    ASSIGN_OR_RETURN(found.document, content->GetManifest(chosen->digest));
  }
  return absl::InvalidArgumentError(
      base::StrCat(where, ": indexes are nested more than ", kMaxIndexDepth, " deep"));
}

absl::StatusOr<std::string> GetConfig(ContentSource* content, const Descriptor& descriptor) {
  if (IsContentOf(descriptor.data, descriptor)) {
    return descriptor.data;
  }
  ASSIGN_OR_RETURN(std::string body, content->GetSmallBlob(descriptor.digest, kMaxConfigBytes));
  if (body.size() != descriptor.size) {
    return absl::DataLossError(base::StrCat("config ", descriptor.digest, " has ", body.size(),
                                            " bytes instead of ", descriptor.size));
  }
  return body;
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

// The layers of an artifact stand on their own.
std::vector<LayerQuestion> ListFiles(const Manifest& manifest) {
  std::vector<LayerQuestion> layers;
  for (const Descriptor& blob : manifest.layers) {
    LayerQuestion layer;
    layer.index = static_cast<int>(layers.size());
    layer.diff_id = ArtifactDiffId({blob.file_name, blob.digest});
    layer.chain_id = layer.diff_id;
    layer.digest = blob.digest;
    layer.size = blob.size;
    layers.push_back(std::move(layer));
  }
  return layers;
}

// What is to be pulled for an image with this config.
absl::StatusOr<std::vector<LayerQuestion>> ListLayersFor(const Platform& platform,
                                                         const Manifest& manifest,
                                                         std::string_view body) {
  const absl::StatusOr<ImageConfig> config = ParseImageConfig(body);
  if (!config.ok()) {
    return base::Annotate(config.status(), base::StrCat("config ", manifest.config.digest));
  }
  RETURN_IF_ERROR(CheckPlatform(platform, config->platform));
  return ListLayers(manifest, *config);
}

// All that follows from `root`.
absl::StatusOr<ResolvedImage> ResolveRoot(ContentSource* content, const PullRequest& request,
                                          Document root, const std::string& where) {
  ASSIGN_OR_RETURN(FoundManifest found, FindManifest(content, request, std::move(root), where));
  ASSIGN_OR_RETURN(std::string body, GetConfig(content, found.manifest.config));
  const bool is_artifact = !found.manifest.artifact_type.empty();
  absl::StatusOr<std::vector<LayerQuestion>> layers =
      is_artifact ? ListFiles(found.manifest)
                  : ListLayersFor(request.platform, found.manifest, body);
  if (!layers.ok()) {
    return base::Annotate(layers.status(), where);
  }
  ResolvedImage image;
  image.layers = *std::move(layers);
  image.blobs = std::move(found.manifest.layers);
  image.documents.manifest_digest = found.document.digest;
  image.documents.index_digest = std::move(found.index_digest);
  image.documents.indexes = std::move(found.indexes);
  image.documents.media_type = std::move(found.manifest.media_type);
  image.documents.manifest = std::move(found.document.body);
  image.documents.image_id = Sha256Hex(is_artifact ? image.documents.manifest : body);
  image.documents.config = std::move(body);
  return image;
}

absl::StatusOr<ResolvedImage> ResolveAt(RegistryClient* client, const PullRequest& request,
                                        int endpoint, Persistence persistence) {
  const std::string where = client->Name(endpoint);
  absl::StatusOr<Document> root = client->GetManifest(
      endpoint, request.digest.empty() ? request.tag : request.digest, persistence);
  if (!root.ok()) {
    return base::Annotate(root.status(), where);
  }
  RegistryContent content(client);
  ASSIGN_OR_RETURN(ResolvedImage image, ResolveRoot(&content, request, *std::move(root), where));
  image.documents.endpoint = endpoint;
  return image;
}

}  // namespace

absl::StatusOr<ResolvedImage> ResolveImage(RegistryClient* client, const PullRequest& request) {
  if (request.endpoints.empty()) {
    return absl::InvalidArgumentError("no endpoint to pull from");
  }
  EndpointFailures failures;
  const std::vector<int> endpoints =
      request.digest.empty() ? client->ResolvingEndpoints() : client->ContentEndpoints();
  for (const int endpoint : endpoints) {
    if (!client->MayAsk(endpoint)) {
      continue;
    }
    absl::StatusOr<ResolvedImage> image =
        ResolveAt(client, request, endpoint,
                  endpoint == endpoints.back() ? Persistence::kFull : Persistence::kBrief);
    if (image.ok()) {
      return image;
    }
    failures.Add("", image.status());  // It names the endpoint, or several.
  }
  return failures.empty()
             ? absl::FailedPreconditionError(base::StrCat(
                   "no endpoint may be asked for a ", request.digest.empty() ? "tag" : "digest"))
             : failures.Combined();
}

absl::StatusOr<ResolvedImage> ResolveFromArchive(ContentSource* archive,
                                                 const PullRequest& request) {
  ASSIGN_OR_RETURN(Document root, archive->GetManifest(request.tag));
  return ResolveRoot(archive, request, std::move(root), request.archive);
}

bool IsContentOf(std::string_view bytes, const Descriptor& descriptor) {
  return !bytes.empty() && bytes.size() == descriptor.size &&
         VerifyDigest(bytes, descriptor.digest).ok();
}

}  // namespace imageservice::worker
