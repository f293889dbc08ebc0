// For tests: archives of images, as other tools write them and as they should not be.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "imageservice/worker/test_archive.h"

namespace imageservice::worker {

// An archive in the making. Its parts are public: a test may spoil them before it writes.
class ImageArchive {
 public:
  // Adds an image of one layer with the given files, as blobs; returns its manifest's digest.
  std::string AddImage(const std::map<std::string, std::string>& files,
                       const std::string& architecture = "amd64");
  std::string AddImage(const std::vector<TarEntry>& entries, const std::string& architecture);

  // Lists an image under a name (empty: without) and, unless that is empty, with a platform.
  void Name(const std::string& manifest_digest, const std::string& name,
            const std::string& architecture = "");

  std::string index() const;            // index.json.
  std::string docker_manifest() const;  // manifest.json.

  // The archive as an OCI layout in a tar, as `docker save` wrote it before version 25, and as a
  // directory, which exists.
  std::string Oci() const;
  std::string Docker() const;
  absl::Status WriteLayout(const std::string& directory) const;

  std::map<std::string, std::string> blobs;  // By digest.

 private:
  struct Image {
    std::string config;  // Digests.
    std::string layer;
  };
  std::string AddBlob(const std::string& bytes);

  std::map<std::string, Image> images_;  // By the manifest's digest.
  struct Listed {
    std::string digest;
    std::string name;
    std::string architecture;
  };
  std::vector<Listed> listed_;
};

}  // namespace imageservice::worker
