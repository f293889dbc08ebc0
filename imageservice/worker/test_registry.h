// For tests: a real registry on loopback, images to push into it, and a small HTTP server that
// misbehaves as told.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/subprocess.h"
#include "imageservice/worker/test_archive.h"

namespace imageservice::worker {

// docker-registry with a directory of its own.
class TestRegistry {
 public:
  // Starts it and waits until it answers; an error when the machine has none. With a password, the
  // user "crisp" has to give it.
  enum class Scheme { kHttp, kHttps };
  static absl::StatusOr<std::unique_ptr<TestRegistry>> Start(const std::string& password = "",
                                                             Scheme scheme = Scheme::kHttp);

  std::string host() const;
  std::string url() const { return scheme_ + host(); }
  // Its own authority, with https.
  std::string certificate() const;

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

// One request as the server saw it; header names in lower case.
struct TestRequest {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;
  std::string body;
};

struct TestResponse {
  int status = 200;
  std::vector<std::string> headers;  // "Name: value".
  std::string body;
  int64_t content_length = -1;  // -1: the truth.
};

// Serves HTTP/1.1 on a port of 127.0.0.1, one connection per request, in threads.
class TestServer {
 public:
  using Handler = std::function<TestResponse(const TestRequest&)>;
  explicit TestServer(Handler handler);
  ~TestServer();
  TestServer(const TestServer&) = delete;
  TestServer& operator=(const TestServer&) = delete;

  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string url() const { return "http://" + host(); }
  std::vector<TestRequest> requests();

 private:
  void Accept();
  void Serve(int fd);

  const Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::thread thread_;
  base::Mutex mutex_;
  std::vector<std::thread> workers_ ABSL_GUARDED_BY(mutex_);
  std::vector<TestRequest> requests_ ABSL_GUARDED_BY(mutex_);
};

// Answers manifests and blobs of a layout's repository "app" as a registry would; nullopt for
// anything else.
std::optional<TestResponse> ServeLayout(const TestLayout& layout, const TestLayout::Blob& root,
                                        const TestRequest& request);

}  // namespace imageservice::worker
