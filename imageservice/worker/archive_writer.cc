#include "imageservice/worker/archive_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/artifact.h"
#include "imageservice/worker/deflate.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/layer_archive.h"

namespace imageservice::worker {
namespace {

using base::Json;

constexpr char kIndexType[] = "application/vnd.oci.image.index.v1+json";
constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kConfigType[] = "application/vnd.oci.image.config.v1+json";
constexpr char kLayerType[] = "application/vnd.oci.image.layer.v1.tar";

constexpr size_t kFileChunk = 256 << 10;

std::string LayerType(ArchiveCompression compression) {
  switch (compression) {
    case ArchiveCompression::kGzip:
      return base::StrCat(kLayerType, "+gzip");
    case ArchiveCompression::kZstd:
      return base::StrCat(kLayerType, "+zstd");
    case ArchiveCompression::kNone:
      break;
  }
  return kLayerType;
}

// A layer that is in the archive.
struct WrittenLayer {
  std::string diff_id;  // "sha256:…".
  std::string digest;
  uint64_t size = 0;
};

class Writer {
 public:
  Writer(const SaveRequest& request, ArchiveOutput* output,
         const std::function<void(uint64_t)>& progress)
      : request_(request), output_(*output), progress_(progress) {}

  absl::Status AddImage(const ImageToSave& image) {
    std::vector<WrittenLayer> written;
    for (const std::string& directory : image.directories) {
      // Images share their lower layers.
      const auto [known, is_new] = layers_.try_emplace(directory);
      if (is_new) {
        ASSIGN_OR_RETURN(known->second, WriteLayer(directory));
      }
      written.push_back(known->second);
    }
    ASSIGN_OR_RETURN(const std::string config, ConfigFor(image.config, written));
    ASSIGN_OR_RETURN(const Json config_descriptor, AddDocument(config, kConfigType));
    Json layer_descriptors = Json::array();
    Json layer_paths = Json::array();
    for (const WrittenLayer& layer : written) {
      layer_descriptors.push_back({{"mediaType", LayerType(request_.compression)},
                                   {"digest", layer.digest},
                                   {"size", layer.size}});
      layer_paths.push_back(BlobPath(layer.digest));
    }
    const Json manifest = {{"schemaVersion", 2},
                           {"mediaType", kManifestType},
                           {"config", config_descriptor},
                           {"layers", std::move(layer_descriptors)}};
    ASSIGN_OR_RETURN(const Json descriptor, AddDocument(base::DumpJson(manifest), kManifestType));
    AddToIndex(descriptor, image.names);
    const std::string id = Sha256Hex(config);
    docker_.push_back({{"Config", BlobPath("sha256:" + id)},
                       {"RepoTags", image.names},
                       {"Layers", std::move(layer_paths)}});
    saved_.image_ids.push_back(id);
    return absl::OkStatus();
  }

  // As it was pulled, so that it keeps its digest.
  absl::Status AddArtifact(const ImageToSave& artifact) {
    ASSIGN_OR_RETURN(const Json manifest, base::ParseJson(artifact.manifest));
    ASSIGN_OR_RETURN(const std::vector<ArtifactFile> files, ParseArtifactFiles(manifest));
    ASSIGN_OR_RETURN(const std::string config,
                     base::JsonString(base::JsonMember(manifest, "config"), "digest"));
    const auto is_sha256 = [](const ArtifactFile& file) {
      return file.digest.starts_with("sha256:");
    };
    if (!config.starts_with("sha256:") || !std::ranges::all_of(files, is_sha256)) {
      return absl::FailedPreconditionError("an artifact with digests of sha512 cannot be saved");
    }
    RETURN_IF_ERROR(AddBlob(artifact.config, config));
    size_t next = 0;
    for (const ArtifactFile& file : files) {
      if (file.name.empty()) {
        RETURN_IF_ERROR(AddBlob("{}", file.digest));
      } else if (next < artifact.directories.size()) {
        RETURN_IF_ERROR(CopyFile(artifact.directories[next++], file));
      } else {
        return absl::InternalError("fewer layers than the artifact has files");
      }
    }
    ASSIGN_OR_RETURN(Json descriptor, AddDocument(artifact.manifest, kManifestType));
    ASSIGN_OR_RETURN(const std::string type, ArtifactTypeOf(manifest));
    descriptor["artifactType"] = type;
    AddToIndex(descriptor, artifact.names);
    saved_.image_ids.push_back(Sha256Hex(artifact.manifest));
    return absl::OkStatus();
  }

  absl::StatusOr<SavedArchive> Finish() {
    const Json index = {
        {"schemaVersion", 2}, {"mediaType", kIndexType}, {"manifests", std::move(index_)}};
    RETURN_IF_ERROR(output_.AddFile("index.json", base::DumpJson(index)));
    if (request_.format == ArchiveFormat::kDockerArchive) {
      RETURN_IF_ERROR(output_.AddFile("manifest.json", base::DumpJson(docker_)));
    }
    RETURN_IF_ERROR(output_.AddFile("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}"));
    RETURN_IF_ERROR(output_.Finish());
    return std::move(saved_);
  }

 private:
  absl::StatusOr<WrittenLayer> WriteLayer(const std::string& directory) {
    ASSIGN_OR_RETURN(const base::UniqueFd root,
                     base::Open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    WrittenLayer layer;
    Hasher archive_hasher("sha256:");
    Hasher blob_hasher("sha256:");
    const bool is_plain = request_.compression == ArchiveCompression::kNone;
    RETURN_IF_ERROR(output_.BeginBlob());
    const auto deflater =
        Deflater::Create(request_.compression, [&](std::string_view bytes) -> absl::Status {
          layer.size += bytes.size();
          if (!is_plain) {
            blob_hasher.Update(bytes);
          }
          return output_.Write(bytes);
        });
    RETURN_IF_ERROR(WriteLayerArchive(root.get(), [&](std::string_view bytes) {
      archive_hasher.Update(bytes);
      bytes_ += bytes.size();
      progress_(bytes_);
      return deflater->Write(bytes);
    }));
    RETURN_IF_ERROR(deflater->Finish());
    layer.diff_id = archive_hasher.Finish();
    layer.digest = is_plain ? layer.diff_id : blob_hasher.Finish();
    RETURN_IF_ERROR(output_.EndBlob(layer.digest));
    return layer;
  }

  absl::Status CopyFile(const std::string& directory, const ArtifactFile& file) {
    // The name has been made safe, and its folders are the store's.
    ASSIGN_OR_RETURN(base::UniqueFd opened, base::Open(directory, O_RDONLY | O_DIRECTORY));
    for (size_t begin = 0; begin < file.name.size();) {
      const size_t end = std::min(file.name.find('/', begin), file.name.size());
      ASSIGN_OR_RETURN(opened, base::OpenAt(opened.get(), file.name.substr(begin, end - begin),
                                            O_RDONLY | O_NOFOLLOW));
      begin = end + 1;
    }
    Hasher hasher(file.digest);
    RETURN_IF_ERROR(output_.BeginBlob());
    for (std::string buffer(kFileChunk, '\0');;) {
      const ssize_t n = read(opened.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n < 0) {
        return base::ErrnoStatus(errno, base::StrCat("read ", file.digest));
      }
      if (n == 0) {
        break;
      }
      const std::string_view bytes(buffer.data(), static_cast<size_t>(n));
      hasher.Update(bytes);
      bytes_ += bytes.size();
      progress_(bytes_);
      RETURN_IF_ERROR(output_.Write(bytes));
    }
    if (const std::string digest = hasher.Finish(); digest != file.digest) {
      return absl::DataLossError(
          base::StrCat("the file of ", file.digest, " was changed on disk: it is ", digest));
    }
    return output_.EndBlob(file.digest);
  }

  absl::Status AddBlob(const std::string& bytes, const std::string& digest) {
    RETURN_IF_ERROR(VerifyDigest(bytes, digest));
    RETURN_IF_ERROR(output_.BeginBlob());
    RETURN_IF_ERROR(output_.Write(bytes));
    return output_.EndBlob(digest);
  }

  // The stored config, byte for byte when its diff IDs are right already.
  static absl::StatusOr<std::string> ConfigFor(const std::string& stored,
                                               const std::vector<WrittenLayer>& layers) {
    ASSIGN_OR_RETURN(Json config, base::ParseJson(stored));
    Json diff_ids = Json::array();
    for (const WrittenLayer& layer : layers) {
      diff_ids.push_back(layer.diff_id);
    }
    if (!config.is_object() || !config["rootfs"].is_object()) {
      return absl::InvalidArgumentError("the image's config has no rootfs");
    }
    if (config["rootfs"]["diff_ids"] == diff_ids) {
      return stored;
    }
    config["rootfs"]["diff_ids"] = std::move(diff_ids);
    return base::DumpJson(config);
  }

  // Adds a blob; its descriptor.
  absl::StatusOr<Json> AddDocument(const std::string& text, std::string_view media_type) {
    const std::string digest = base::StrCat("sha256:", Sha256Hex(text));
    RETURN_IF_ERROR(output_.BeginBlob());
    RETURN_IF_ERROR(output_.Write(text));
    RETURN_IF_ERROR(output_.EndBlob(digest));
    return Json(
        {{"mediaType", std::string(media_type)}, {"digest", digest}, {"size", text.size()}});
  }

  // An entry for each name; both annotations, since tools read one or the other.
  void AddToIndex(const Json& descriptor, const std::vector<std::string>& names) {
    if (names.empty()) {
      index_.push_back(descriptor);
    }
    for (const std::string& name : names) {
      Json named = descriptor;
      named["annotations"] = {{"io.containerd.image.name", name},
                              {"org.opencontainers.image.ref.name", name}};
      index_.push_back(std::move(named));
    }
  }

  const SaveRequest& request_;
  ArchiveOutput& output_;
  const std::function<void(uint64_t)>& progress_;
  std::map<std::string, WrittenLayer> layers_;  // By directory.
  uint64_t bytes_ = 0;
  Json index_ = Json::array();
  Json docker_ = Json::array();
  SavedArchive saved_;
};

}  // namespace

absl::StatusOr<SavedArchive> WriteArchive(const SaveRequest& request, ArchiveOutput* output,
                                          const std::function<void(uint64_t)>& progress) {
  Writer writer(request, output, progress);
  for (const ImageToSave& image : request.images) {
    RETURN_IF_ERROR(image.manifest.empty() ? writer.AddImage(image) : writer.AddArtifact(image));
  }
  return writer.Finish();
}

}  // namespace imageservice::worker
