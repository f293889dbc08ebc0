// For tests: a real registry on loopback, and images to push into it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "imageservice/worker/test_archive.h"

namespace imageservice::worker {

// docker-registry with a directory of its own.
class TestRegistry {
 public:
  // Starts it and waits until it answers; an error when the machine has none. With a password, the
  // user "crisp" has to give it.
  enum class Scheme { kHttp, kHttps };
  // With an authority (PEM), clients have to show a certificate of it.
  static absl::StatusOr<std::unique_ptr<TestRegistry>> Start(
      const std::string& password = "", Scheme scheme = Scheme::kHttp,
      const std::string& client_authority = "");

  std::string host() const;
  std::string url() const { return scheme_ + host(); }
  // Its own authority, with https.
  std::string certificate() const;
  // What it logged about requests: `"GET /v2/… HTTP/2.0" 200 …`.
  std::string access_log() const;

  // Copies the OCI layout at `path` to `name` ("app:1"), with further options for skopeo.
  absl::Status Push(const std::string& path, const std::string& name,
                    const std::vector<std::string>& options = {});

 private:
  TestRegistry() = default;
  TempDirectory directory_;
  int port_ = 0;
  std::string scheme_ = "http://";
  std::string password_;
  std::unique_ptr<base::Subprocess> process_;
};

// An OCI image layout under construction.
class TestLayout {
 public:
  struct Blob {
    std::string media_type;
    std::string digest;
    size_t size = 0;
  };

  explicit TestLayout(std::string path);
  // Adds an image of these layers, each given compressed, with its archive; returns its manifest.
  struct Layer {
    std::string archive;
    std::string blob;
    std::string media_type;
  };
  Blob AddImage(const std::vector<Layer>& layers, const std::string& os,
                const std::string& architecture);
  // Adds an OCI artifact of these files, whose titles may be empty; `patch` is merged into its
  // manifest (RFC 7386).
  struct File {
    std::string title;
    std::string content;
  };
  Blob AddArtifact(const std::vector<File>& files, const base::Json& patch = base::Json::object());
  // Writes index.json with the tag "image" for `root`.
  void Finish(const Blob& root);
  // Adds an index of images for architectures.
  Blob AddIndex(const std::map<std::string, Blob>& images);
  Blob AddBlob(const std::string& bytes, const std::string& media_type);
  const std::string& path() const { return path_; }
  // All blobs by digest.
  const std::map<std::string, std::string>& blobs() const { return blobs_; }

 private:
  const std::string path_;
  std::map<std::string, std::string> blobs_;
};

TestLayout::Layer PlainLayer(const std::vector<TarEntry>& entries);
TestLayout::Layer GzipLayer(const std::vector<TarEntry>& entries);
TestLayout::Layer ZstdLayer(const std::vector<TarEntry>& entries);

// An image of three layers: gzip, zstd and plain. The second has the file "big" with BigText().
TestLayout::Blob AddSampleImage(TestLayout* layout, const std::string& architecture = "amd64");
// 3 MiB of digits that compress to about half.
std::string BigText();

}  // namespace imageservice::worker
