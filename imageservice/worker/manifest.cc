#include "imageservice/worker/manifest.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/artifact.h"
#include "imageservice/worker/digest.h"

namespace imageservice::worker {
namespace {

using base::Json;
using base::JsonMember;

constexpr size_t kMaxIndexEntries = 10'000;

constexpr std::string_view kIndexTypes[] = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json"};
constexpr std::string_view kManifestTypes[] = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json"};
constexpr std::string_view kSchema1Types[] = {
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json"};
template <size_t N>
bool IsOneOf(std::string_view type, const std::string_view (&types)[N]) {
  return std::ranges::find(types, type) != std::end(types);
}

enum class Kind { kIndex, kManifest };

absl::Status ArtifactError(std::string_view type) {
  return absl::FailedPreconditionError(
      base::StrCat("an artifact of type \"", type.substr(0, 200),
                   "\" in the form of a draft: it has to be pushed again by a newer tool"));
}

absl::Status Schema1Error() {
  return absl::InvalidArgumentError(
      "a manifest of schema 1, which is obsolete: the image has to be pushed again by a newer "
      "tool");
}

// What a media type says; nullopt when it says nothing ("application/json").
absl::StatusOr<std::optional<Kind>> KindOfType(std::string_view type) {
  if (IsOneOf(type, kIndexTypes)) return Kind::kIndex;
  if (IsOneOf(type, kManifestTypes)) return Kind::kManifest;
  if (IsOneOf(type, kSchema1Types)) return Schema1Error();
  return std::nullopt;
}

// What the document's members say.
absl::StatusOr<Kind> KindOfMembers(const Json& json) {
  if (!json.is_object()) {
    return absl::InvalidArgumentError("the manifest is no JSON object");
  }
  const bool has_manifests = json.contains("manifests");
  const bool has_layers = json.contains("layers") || json.contains("config");
  if (json.contains("fsLayers")) {
    return Schema1Error();
  }
  if (has_manifests && has_layers) {
    return absl::InvalidArgumentError("the document is both an index and a manifest");
  }
  if (!has_manifests && !has_layers && json.contains("blobs")) {
    ASSIGN_OR_RETURN(const std::string type, base::JsonString(json, "artifactType"));
    return ArtifactError(type);  // The artifact manifest of a draft of OCI 1.1.
  }
  if (!has_manifests && !has_layers) {
    return absl::InvalidArgumentError("the document is neither an index nor a manifest");
  }
  return has_manifests ? Kind::kIndex : Kind::kManifest;
}

absl::StatusOr<Platform> ParsePlatform(const Json& json) {
  Platform platform;
  ASSIGN_OR_RETURN(platform.os, base::JsonString(json, "os"));
  ASSIGN_OR_RETURN(platform.architecture, base::JsonString(json, "architecture"));
  ASSIGN_OR_RETURN(platform.variant, base::JsonString(json, "variant"));
  return platform;
}

absl::StatusOr<Descriptor> ParseDescriptor(const Json& json) {
  Descriptor descriptor;
  ASSIGN_OR_RETURN(descriptor.media_type, base::JsonString(json, "mediaType"));
  ASSIGN_OR_RETURN(descriptor.digest, base::JsonString(json, "digest"));
  RETURN_IF_ERROR(CheckDigest(descriptor.digest));
  ASSIGN_OR_RETURN(const int64_t size, base::JsonInt(json, "size", -1));
  if (size < 0) {
    return absl::InvalidArgumentError(base::StrCat(descriptor.digest, " has no size"));
  }
  descriptor.size = static_cast<uint64_t>(size);
  if (const Json& platform = JsonMember(json, "platform"); !platform.is_null()) {
    ASSIGN_OR_RETURN(descriptor.platform, ParsePlatform(platform));
  }
  ASSIGN_OR_RETURN(descriptor.urls, base::JsonStrings(json, "urls"));
  // What cannot be used is fetched instead.
  const absl::StatusOr<std::string> data = base::JsonString(json, "data");
  if (!data.ok() || !absl::Base64Unescape(*data, &descriptor.data) ||
      descriptor.data.size() != descriptor.size) {
    descriptor.data.clear();
  }
  ASSIGN_OR_RETURN(descriptor.artifact_type, base::JsonString(json, "artifactType"));
  const Json& zstd =
      JsonMember(JsonMember(json, "annotations"), "io.github.containers.compression.zstd");
  descriptor.is_zstd = zstd.is_string() && zstd.get<std::string>() == "true";
  return descriptor;
}

absl::StatusOr<std::vector<Descriptor>> ParseDescriptors(const Json& json, std::string_view key,
                                                         size_t max_count) {
  const Json& list = JsonMember(json, key);
  std::vector<Descriptor> descriptors;
  if (!list.is_array()) {
    return absl::InvalidArgumentError(base::StrCat("\"", key, "\" is no list"));
  }
  if (list.size() > max_count) {
    return absl::InvalidArgumentError(
        base::StrCat("\"", key, "\" has more than ", max_count, " entries"));
  }
  for (const Json& element : list) {
    absl::StatusOr<Descriptor> descriptor = ParseDescriptor(element);
    if (!descriptor.ok()) {
      return base::Annotate(descriptor.status(), base::StrCat("\"", key, "\""));
    }
    descriptors.push_back(*std::move(descriptor));
  }
  return descriptors;
}

absl::StatusOr<Manifest> ParseImageManifest(const Json& json) {
  Manifest manifest;
  absl::StatusOr<Descriptor> config = ParseDescriptor(JsonMember(json, "config"));
  if (!config.ok()) {
    return base::Annotate(config.status(), "\"config\"");
  }
  manifest.config = *std::move(config);
  ASSIGN_OR_RETURN(manifest.artifact_type, ArtifactTypeOf(json));
  if (manifest.artifact_type.empty() && manifest.config.media_type.empty()) {
    return absl::FailedPreconditionError("neither an image nor an artifact: no type is said");
  }
  if (manifest.config.size > kMaxConfigBytes) {
    return absl::ResourceExhaustedError(
        base::StrCat("the config is longer than ", kMaxConfigBytes, " bytes"));
  }
  ASSIGN_OR_RETURN(manifest.layers, ParseDescriptors(json, "layers", kMaxLayers));
  if (!manifest.artifact_type.empty()) {
    ASSIGN_OR_RETURN(const std::vector<ArtifactFile> files, ParseArtifactFiles(json));
    for (size_t i = 0; i < files.size(); ++i) {
      manifest.layers[i].file_name = files[i].name;
    }
    std::erase_if(manifest.layers, [](const Descriptor& blob) { return blob.file_name.empty(); });
    return manifest;
  }
  for (const Descriptor& layer : manifest.layers) {
    if (!IsImageLayerType(layer.media_type)) {
      return absl::InvalidArgumentError(base::StrCat(
          "layer ", layer.digest, " is of unknown type \"", layer.media_type.substr(0, 200), "\""));
    }
  }
  return manifest;
}

// Names that differ and mean the same.
Platform Normalised(Platform platform) {
  if ((platform.architecture == "arm64" && platform.variant == "v8") ||
      (platform.architecture == "amd64" && platform.variant == "v1")) {
    platform.variant.clear();
  } else if (platform.architecture == "arm" && platform.variant.empty()) {
    platform.variant = "v7";
  }
  return platform;
}

// The number in "v7"; 0 for none, -1 for something else.
int VariantNumber(const std::string& variant) {
  if (variant.empty()) {
    return 0;
  }
  const bool is_number =
      variant.size() == 2 && variant[0] == 'v' && variant[1] >= '0' && variant[1] <= '9';
  return is_number ? variant[1] - '0' : -1;
}

}  // namespace

absl::StatusOr<std::variant<Index, Manifest>> ParseManifest(std::string_view body,
                                                            std::string_view content_type) {
  ASSIGN_OR_RETURN(const Json json, base::ParseJson(body));
  ASSIGN_OR_RETURN(const std::optional<Kind> content_kind, KindOfType(content_type));
  ASSIGN_OR_RETURN(const Kind kind, KindOfMembers(json));
  ASSIGN_OR_RETURN(const std::string media_type, base::JsonString(json, "mediaType"));
  ASSIGN_OR_RETURN(const std::optional<Kind> media_kind, KindOfType(media_type));
  if (content_kind.value_or(kind) != kind || media_kind.value_or(kind) != kind) {
    return absl::InvalidArgumentError("the document is not what its media type says");
  }
  ASSIGN_OR_RETURN(const int64_t version, base::JsonInt(json, "schemaVersion"));
  if (version == 1) {
    return Schema1Error();
  }
  if (version != 2) {
    return absl::InvalidArgumentError(base::StrCat("schema version ", version, " is unknown"));
  }
  if (kind == Kind::kIndex) {
    Index index;
    ASSIGN_OR_RETURN(index.manifests, ParseDescriptors(json, "manifests", kMaxIndexEntries));
    return index;
  }
  ASSIGN_OR_RETURN(Manifest manifest, ParseImageManifest(json));
  manifest.media_type = media_kind.has_value()     ? media_type
                        : content_kind.has_value() ? std::string(content_type)
                                                   : std::string(kManifestTypes[0]);
  return manifest;
}

absl::StatusOr<ImageConfig> ParseImageConfig(std::string_view body) {
  ASSIGN_OR_RETURN(const Json json, base::ParseJson(body));
  ImageConfig config;
  ASSIGN_OR_RETURN(config.platform, ParsePlatform(json));
  const Json& rootfs = JsonMember(json, "rootfs");
  if (!rootfs.is_object()) {
    return absl::InvalidArgumentError("the config has no \"rootfs\"");
  }
  ASSIGN_OR_RETURN(const std::string type, base::JsonString(rootfs, "type"));
  if (type != "layers") {
    return absl::InvalidArgumentError("\"rootfs.type\" of the config is not \"layers\"");
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> diff_ids, base::JsonStrings(rootfs, "diff_ids"));
  for (const std::string& diff_id : diff_ids) {
    ASSIGN_OR_RETURN(std::string hex, Sha256Part(diff_id));
    config.diff_ids.push_back(std::move(hex));
  }
  return config;
}

std::optional<int> PlatformRank(const Platform& wanted_raw, const Platform& offered_raw) {
  const Platform wanted = Normalised(wanted_raw);
  const Platform offered = Normalised(offered_raw);
  if (wanted.os != offered.os || wanted.architecture != offered.architecture) {
    return std::nullopt;
  }
  if (wanted.variant == offered.variant) {
    return 0;
  }
  // A processor runs what is made for lower variants of it; an unnamed variant is the lowest.
  const int own = VariantNumber(wanted.variant);
  const int other = VariantNumber(offered.variant);
  const bool is_numbered = own >= 0 && other >= 0;
  if (!is_numbered) {
    return offered.variant.empty() ? std::optional<int>(100) : std::nullopt;
  }
  return other <= own ? std::optional<int>(own - other) : std::nullopt;
}

absl::StatusOr<Descriptor> ChooseManifest(const Index& index, const Platform& wanted) {
  constexpr int kLastResort = 1000;
  const Descriptor* best = nullptr;
  const Descriptor* best_artifact = nullptr;
  int best_score = 0;
  int best_artifact_score = 0;
  std::string offered;
  const bool has_images = std::ranges::any_of(index.manifests, [](const Descriptor& descriptor) {
    return descriptor.artifact_type.empty() && descriptor.platform.has_value() &&
           descriptor.platform->os != "unknown";
  });
  for (const Descriptor& descriptor : index.manifests) {
    const bool is_artifact = !descriptor.artifact_type.empty();
    std::optional<int> rank;
    if (!descriptor.platform.has_value()) {
      rank = kLastResort;
    } else if (descriptor.platform->os != "unknown") {
      rank = PlatformRank(wanted, *descriptor.platform);
      if (offered.size() < 500 && !(is_artifact && has_images)) {
        offered += base::StrCat(offered.empty() ? "" : ", ", PlatformName(*descriptor.platform));
      }
    }
    if (!rank.has_value()) {
      continue;
    }
    const int score = *rank * 2 + (descriptor.is_zstd ? 0 : 1);
    const Descriptor*& leader = is_artifact ? best_artifact : best;
    int& leading_score = is_artifact ? best_artifact_score : best_score;
    if (leader == nullptr || score < leading_score) {
      leader = &descriptor;
      leading_score = score;
    }
  }
  if (best == nullptr && !has_images) {
    best = best_artifact;
  }
  if (best == nullptr) {
    return absl::NotFoundError(base::StrCat("no image for platform ", PlatformName(wanted),
                                            " in the index (it has ",
                                            offered.empty() ? "none" : offered, ")"));
  }
  return *best;
}

absl::Status CheckPlatform(const Platform& wanted, const Platform& offered) {
  const auto agrees = [](const std::string& ours, const std::string& theirs) {
    return theirs.empty() || ours == theirs;
  };
  if (agrees(wanted.os, offered.os) && agrees(wanted.architecture, offered.architecture)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(base::StrCat("the image is for ", PlatformName(offered),
                                                    " and not for ", PlatformName(wanted)));
}

std::string PlatformName(const Platform& platform) {
  std::string name = base::StrCat(platform.os, "/", platform.architecture,
                                  platform.variant.empty() ? "" : "/", platform.variant);
  std::ranges::replace_if(name, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return name.substr(0, 100);
}

}  // namespace imageservice::worker
