#include "imageservice/worker/test_image_archive.h"

#include "base/files.h"
#include "base/json.h"
#include "base/sha.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

using base::Json;

std::string BlobFile(const std::string& digest) { return "blobs/sha256/" + digest.substr(7); }

}  // namespace

std::string ImageArchive::AddBlob(const std::string& bytes) {
  const std::string digest = "sha256:" + base::Sha256Hex(bytes);
  blobs[digest] = bytes;
  return digest;
}

std::string ImageArchive::AddImage(const std::map<std::string, std::string>& files,
                                   const std::string& architecture) {
  std::vector<TarEntry> entries;
  for (const auto& [name, content] : files) {
    entries.push_back({.name = name, .content = content});
  }
  return AddImage(entries, architecture);
}

std::string ImageArchive::AddImage(const std::vector<TarEntry>& entries,
                                   const std::string& architecture) {
  const std::string layer = AddBlob(Tar(entries));
  const Json config = {{"os", "linux"},
                       {"architecture", architecture},
                       {"config", {{"Cmd", {"/bin/true"}}}},
                       {"history", {{{"created_by", "test"}}}},
                       {"rootfs", {{"type", "layers"}, {"diff_ids", {layer}}}}};
  const std::string config_digest = AddBlob(base::DumpJson(config));
  const Json manifest = {{"schemaVersion", 2},
                         {"config",
                          {{"mediaType", "application/vnd.oci.image.config.v1+json"},
                           {"digest", config_digest},
                           {"size", blobs[config_digest].size()}}},
                         {"layers",
                          {{{"mediaType", "application/vnd.oci.image.layer.v1.tar"},
                            {"digest", layer},
                            {"size", blobs[layer].size()}}}}};
  const std::string digest = AddBlob(base::DumpJson(manifest));
  images_[digest] = {config_digest, layer};
  return digest;
}

void ImageArchive::Name(const std::string& manifest_digest, const std::string& name,
                        const std::string& architecture) {
  listed_.push_back({manifest_digest, name, architecture});
}

std::string ImageArchive::index() const {
  Json manifests = Json::array();
  for (const Listed& listed : listed_) {
    Json entry = {{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                  {"digest", listed.digest},
                  {"size", blobs.at(listed.digest).size()}};
    if (!listed.name.empty()) {
      entry["annotations"] = {{"org.opencontainers.image.ref.name", listed.name}};
    }
    if (!listed.architecture.empty()) {
      entry["platform"] = {{"os", "linux"}, {"architecture", listed.architecture}};
    }
    manifests.push_back(std::move(entry));
  }
  return base::DumpJson(Json({{"schemaVersion", 2}, {"manifests", std::move(manifests)}}));
}

std::string ImageArchive::docker_manifest() const {
  Json list = Json::array();
  for (const Listed& listed : listed_) {
    const Image& image = images_.at(listed.digest);
    Json tags = listed.name.empty() ? Json() : Json::array({listed.name});
    list.push_back({{"Config", image.config.substr(7) + ".json"},
                    {"RepoTags", std::move(tags)},
                    {"Layers", {image.layer.substr(7) + "/layer.tar"}}});
  }
  return base::DumpJson(list);
}

std::string ImageArchive::Oci() const {
  std::vector<TarEntry> entries = {
      {.name = "oci-layout", .content = "{\"imageLayoutVersion\":\"1.0.0\"}"},
      {.name = "index.json", .content = index()}};
  for (const auto& [digest, bytes] : blobs) {
    entries.push_back({.name = BlobFile(digest), .content = bytes});
  }
  return Tar(entries);
}

std::string ImageArchive::Docker() const {
  std::vector<TarEntry> entries;
  for (const auto& [digest, image] : images_) {
    entries.push_back(
        {.name = image.layer.substr(7) + "/layer.tar", .content = blobs.at(image.layer)});
    entries.push_back(
        {.name = image.config.substr(7) + ".json", .content = blobs.at(image.config)});
  }
  entries.push_back({.name = "manifest.json", .content = docker_manifest()});
  return Tar(entries);
}

absl::Status ImageArchive::WriteLayout(const std::string& directory) const {
  RETURN_IF_ERROR(base::MakeDirectories(directory + "/blobs/sha256"));
  std::map<std::string, std::string> files = {{"oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}"},
                                              {"index.json", index()}};
  for (const auto& [digest, bytes] : blobs) {
    files[BlobFile(digest)] = bytes;
  }
  for (const auto& [name, bytes] : files) {
    RETURN_IF_ERROR(
        base::ReplaceFile(directory + "/" + name, bytes, 0644, base::Durability::kVolatile));
  }
  return absl::OkStatus();
}

}  // namespace imageservice::worker
