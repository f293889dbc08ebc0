// Images from an archive in the place of a registry: an OCI layout (OCI image-spec,
// image-layout.md), as a directory or a tar archive, or what `docker save` writes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "imageservice/worker/archive_files.h"
#include "imageservice/worker/archive_protocol.h"
#include "imageservice/worker/content_source.h"

namespace imageservice::worker {

// Thread-safe. Documents and small blobs are verified, layers are
// for the caller to verify. Errors: NOT_FOUND for what the archive lacks, INVALID_ARGUMENT for what
// makes no sense, DATA_LOSS for content of another digest.
class ArchiveSource final : public ContentSource {
 public:
  // The archive that `fd` is (see ArchiveFiles::Open). What it is, is told by its content.
  static absl::StatusOr<std::unique_ptr<ArchiveSource>> Open(base::UniqueFd fd);

  // The images in it, in its order. Of an index without names, or with one name for several
  // platforms, only the one for `platform` is listed.
  absl::StatusOr<std::vector<ArchivedImage>> Images(const Platform& platform) const;

  // `reference` is an image's selector or a digest.
  absl::StatusOr<Document> GetManifest(const std::string& reference) override;
  absl::StatusOr<std::string> GetSmallBlob(const std::string& digest, size_t max_bytes) override;
  // The bytes of a layer.
  absl::StatusOr<ByteSource> OpenBlob(const std::string& digest) const;

 private:
  // An entry of docker's manifest.json.
  struct DockerImage {
    std::string config;  // Paths in the archive.
    std::vector<std::string> layers;
    std::vector<std::string> names;
  };
  // An entry of index.json.
  struct OciImage {
    std::string digest;
    std::string name;  // Empty: none.
  };

  explicit ArchiveSource(std::unique_ptr<ArchiveFiles> files) : files_(std::move(files)) {}
  absl::Status ReadOciIndex(const ArchivedFile& file);
  absl::Status ReadDockerManifest(const ArchivedFile& file);
  absl::StatusOr<ArchivedFile> FindBlob(const std::string& digest) const;
  absl::StatusOr<Document> DockerDocument(const DockerImage& image);
  absl::StatusOr<std::string> DockerLayer(const std::string& path, const std::string& diff_id);

  const std::unique_ptr<ArchiveFiles> files_;
  bool is_docker_ = false;
  std::string index_;  // index.json.
  std::vector<OciImage> oci_images_;
  std::vector<DockerImage> docker_images_;

  mutable base::Mutex mutex_;
  // Where docker's archive has what its configs promise: paths by digest.
  std::map<std::string, std::string> docker_blobs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageservice::worker
