#include "imageservice/worker/archive_source.h"

#include <algorithm>
#include <optional>
#include <set>
#include <variant>

#include "absl/strings/numbers.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/manifest.h"

namespace imageservice::worker {
namespace {

using base::Json;
using base::JsonMember;

constexpr char kOciIndex[] = "index.json";
constexpr char kDockerManifest[] = "manifest.json";
constexpr char kDockerSelector[] = "docker:";  // And the number of the image.
constexpr size_t kMaxImages = 1000;
constexpr size_t kMaxNames = 1000;  // Of one image.

// The name that an entry of index.json gives. A tool may write a bare tag, which is none.
std::string NameOf(const Json& descriptor) {
  const Json& annotations = JsonMember(descriptor, "annotations");
  for (const char* key : {"io.containerd.image.name", "org.opencontainers.image.ref.name"}) {
    const Json& value = JsonMember(annotations, key);
    if (value.is_string() && value.get<std::string>().find_first_of("/:") != std::string::npos) {
      return value.get<std::string>();
    }
  }
  return "";
}

absl::StatusOr<std::string> ReadDocument(const ArchivedFile& file, std::string_view what,
                                         size_t max_bytes) {
  absl::StatusOr<std::string> body = file.ReadAll(max_bytes);
  return body.ok() ? std::move(body) : base::Annotate(body.status(), what);
}

std::string_view MediaTypeOfLayer(std::string_view head) {
  if (head.starts_with("\x1f\x8b")) return "application/vnd.oci.image.layer.v1.tar+gzip";
  if (head.starts_with("\x28\xb5\x2f\xfd")) return "application/vnd.oci.image.layer.v1.tar+zstd";
  return "application/vnd.oci.image.layer.v1.tar";
}

// Whether a layer's file is not the archive itself.
bool IsCompressed(std::string_view head) {
  return MediaTypeOfLayer(head) != "application/vnd.oci.image.layer.v1.tar";
}

absl::StatusOr<std::string> DigestOf(const ArchivedFile& file) {
  Hasher hasher("sha256:");
  const ByteSource source = file.Stream();
  for (std::string chunk;;) {
    ASSIGN_OR_RETURN(const bool has_more, source(&chunk));
    if (!has_more) {
      return hasher.Finish();
    }
    hasher.Update(chunk);
  }
}

// The first bytes of a file.
absl::StatusOr<std::string> HeadOf(const ArchivedFile& file) {
  std::string chunk;
  RETURN_IF_ERROR(file.Stream()(&chunk).status());
  return chunk.substr(0, 8);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ArchiveSource>> ArchiveSource::Open(base::UniqueFd fd) {
  ASSIGN_OR_RETURN(std::unique_ptr<ArchiveFiles> files, ArchiveFiles::Open(std::move(fd)));
  std::unique_ptr<ArchiveSource> source(new ArchiveSource(std::move(files)));
  // Newer dockers write both, and only this one has a digest for all that it names.
  const absl::StatusOr<ArchivedFile> index = source->files_->Find(kOciIndex);
  if (index.ok()) {
    RETURN_IF_ERROR(base::Annotate(source->ReadOciIndex(*index), kOciIndex));
    return source;
  }
  const absl::StatusOr<ArchivedFile> manifest = source->files_->Find(kDockerManifest);
  if (manifest.ok()) {
    RETURN_IF_ERROR(base::Annotate(source->ReadDockerManifest(*manifest), kDockerManifest));
    return source;
  }
  if (source->files_->Find("repositories").ok()) {
    return absl::InvalidArgumentError(
        "an archive of docker 1.9 or older, without a manifest.json: save it again by a newer "
        "tool");
  }
  for (const absl::Status& status : {index.status(), manifest.status()}) {
    if (!absl::IsNotFound(status)) {
      return status;
    }
  }
  return absl::InvalidArgumentError(
      base::StrCat("it has neither an index.json (OCI layout) nor a manifest.json (docker save): ",
                   base::ToStd(index.status().message())));
}

absl::Status ArchiveSource::ReadOciIndex(const ArchivedFile& file) {
  ASSIGN_OR_RETURN(index_, file.ReadAll(kMaxManifestBytes));
  ASSIGN_OR_RETURN(const auto parsed, ParseManifest(index_, ""));
  if (!std::holds_alternative<Index>(parsed)) {
    return absl::InvalidArgumentError("it is a manifest and no index");
  }
  ASSIGN_OR_RETURN(const Json json, base::ParseJson(index_));
  const std::vector<Descriptor>& descriptors = std::get<Index>(parsed).manifests;
  const Json& entries = JsonMember(json, "manifests");
  for (size_t i = 0; i < std::min(descriptors.size(), entries.size()); ++i) {
    oci_images_.push_back({.digest = descriptors[i].digest, .name = NameOf(entries[i])});
  }
  return absl::OkStatus();
}

absl::Status ArchiveSource::ReadDockerManifest(const ArchivedFile& file) {
  is_docker_ = true;
  ASSIGN_OR_RETURN(const std::string body, file.ReadAll(kMaxManifestBytes));
  ASSIGN_OR_RETURN(const Json json, base::ParseJson(body));
  if (!json.is_array() || json.size() > kMaxImages) {
    return absl::InvalidArgumentError("it is no list of images");
  }
  for (const Json& element : json) {
    DockerImage image;
    ASSIGN_OR_RETURN(image.config, base::JsonString(element, "Config"));
    ASSIGN_OR_RETURN(image.layers, base::JsonStrings(element, "Layers"));
    ASSIGN_OR_RETURN(image.names, base::JsonStrings(element, "RepoTags"));
    if (image.layers.size() > kMaxLayers || image.names.size() > kMaxNames) {
      return absl::InvalidArgumentError("an image with too many layers or names");
    }
    docker_images_.push_back(std::move(image));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ArchivedImage>> ArchiveSource::Images(const Platform& platform) const {
  std::vector<ArchivedImage> images;
  for (size_t i = 0; i < docker_images_.size(); ++i) {
    images.push_back({.selector = base::StrCat(kDockerSelector, i),
                      .names = docker_images_[i].names,
                      .has_manifest = false});
  }
  if (is_docker_) {
    return images;
  }
  ASSIGN_OR_RETURN(const auto parsed, ParseManifest(index_, ""));
  const std::vector<Descriptor>& descriptors = std::get<Index>(parsed).manifests;
  // The entries of one name, or those without a name but with a platform, are one image.
  std::vector<std::pair<std::string, Index>> groups;
  for (size_t i = 0; i < oci_images_.size(); ++i) {
    const std::string& name = oci_images_[i].name;
    const auto same = std::ranges::find_if(groups, [&](const auto& group) {
      return group.first == name && (!name.empty() || group.second.manifests[0].platform);
    });
    if (same != groups.end() && (!name.empty() || descriptors[i].platform)) {
      same->second.manifests.push_back(descriptors[i]);
    } else {
      groups.push_back({name, Index{{descriptors[i]}}});
    }
  }
  if (groups.size() > kMaxImages) {
    return absl::InvalidArgumentError(base::StrCat("more than ", kMaxImages, " images"));
  }
  for (const auto& [name, group] : groups) {
    // With none for this platform the load of the first one says so.
    std::string digest = group.manifests[0].digest;
    if (const auto chosen = ChooseManifest(group, platform); chosen.ok()) {
      digest = chosen->digest;
    }
    auto known = std::ranges::find(images, digest, &ArchivedImage::selector);
    if (known == images.end()) {
      known = images.insert(known, {.selector = digest, .names = {}, .has_manifest = true});
    }
    if (!name.empty() && known->names.size() < kMaxNames) {
      known->names.push_back(name);
    }
  }
  return images;
}

absl::StatusOr<ArchivedFile> ArchiveSource::FindBlob(const std::string& digest) const {
  RETURN_IF_ERROR(CheckDigest(digest));
  if (is_docker_) {
    const base::MutexLock lock(&mutex_);
    const auto found = docker_blobs_.find(digest);
    if (found == docker_blobs_.end()) {
      return absl::NotFoundError(base::StrCat("the archive has no ", digest));
    }
    return files_->Find(found->second);
  }
  const size_t colon = digest.find(':');
  return files_->Find(
      base::StrCat("blobs/", digest.substr(0, colon), "/", digest.substr(colon + 1)));
}

absl::StatusOr<Document> ArchiveSource::GetManifest(const std::string& reference) {
  if (!reference.starts_with(kDockerSelector)) {
    Document document;
    ASSIGN_OR_RETURN(document.body, GetSmallBlob(reference, kMaxManifestBytes));
    document.digest = reference;
    return document;
  }
  size_t number = 0;
  if (!absl::SimpleAtoi(reference.substr(sizeof(kDockerSelector) - 1), &number) ||
      number >= docker_images_.size()) {
    return absl::NotFoundError("the archive has no such image");
  }
  return DockerDocument(docker_images_[number]);
}

absl::StatusOr<std::string> ArchiveSource::GetSmallBlob(const std::string& digest,
                                                        size_t max_bytes) {
  ASSIGN_OR_RETURN(const ArchivedFile file, FindBlob(digest));
  ASSIGN_OR_RETURN(std::string body, ReadDocument(file, digest, max_bytes));
  RETURN_IF_ERROR(VerifyDigest(body, digest));
  return body;
}

absl::StatusOr<ByteSource> ArchiveSource::OpenBlob(const std::string& digest) const {
  ASSIGN_OR_RETURN(const ArchivedFile file, FindBlob(digest));
  return file.Stream();
}

// docker's archive has no manifest in our sense: one is written from what it has. A layer is as a
// rule the archive itself, whose digest the config promises as the diff ID.
absl::StatusOr<Document> ArchiveSource::DockerDocument(const DockerImage& image) {
  ASSIGN_OR_RETURN(const ArchivedFile file, files_->Find(image.config));
  ASSIGN_OR_RETURN(const std::string config, ReadDocument(file, image.config, kMaxConfigBytes));
  const absl::StatusOr<ImageConfig> parsed = ParseImageConfig(config);
  if (!parsed.ok()) {
    return base::Annotate(parsed.status(), base::StrCat("config ", image.config));
  }
  if (parsed->diff_ids.size() != image.layers.size()) {
    return absl::InvalidArgumentError(base::StrCat(kDockerManifest, " has ", image.layers.size(),
                                                   " layers and the config ",
                                                   parsed->diff_ids.size()));
  }
  const std::string config_digest = base::StrCat("sha256:", Sha256Hex(config));
  {
    const base::MutexLock lock(&mutex_);
    docker_blobs_[config_digest] = image.config;
  }
  Json layers = Json::array();
  for (size_t i = 0; i < image.layers.size(); ++i) {
    ASSIGN_OR_RETURN(const std::string digest, DockerLayer(image.layers[i], parsed->diff_ids[i]));
    ASSIGN_OR_RETURN(const ArchivedFile layer, files_->Find(image.layers[i]));
    ASSIGN_OR_RETURN(const std::string head, HeadOf(layer));
    layers.push_back({{"mediaType", std::string(MediaTypeOfLayer(head))},
                      {"digest", digest},
                      {"size", layer.size()}});
  }
  const Json manifest = {{"schemaVersion", 2},
                         {"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                         {"config",
                          {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                           {"digest", config_digest},
                           {"size", config.size()}}},
                         {"layers", std::move(layers)}};
  Document document;
  document.body = base::DumpJson(manifest);
  document.digest = base::StrCat("sha256:", Sha256Hex(document.body));
  return document;
}

// The digest by which the layer at `path` is asked for. Only a compressed one has to be read for
// it.
absl::StatusOr<std::string> ArchiveSource::DockerLayer(const std::string& path,
                                                       const std::string& diff_id) {
  ASSIGN_OR_RETURN(const ArchivedFile file, files_->Find(path));
  ASSIGN_OR_RETURN(const std::string head, HeadOf(file));
  std::string digest = base::StrCat("sha256:", diff_id);
  if (IsCompressed(head)) {
    ASSIGN_OR_RETURN(digest, DigestOf(file));
  }
  const base::MutexLock lock(&mutex_);
  docker_blobs_[digest] = path;
  return digest;
}

}  // namespace imageservice::worker
