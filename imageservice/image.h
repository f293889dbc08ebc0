// What a container needs to know of an image. The one image interface the runtime service sees.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace imageservice {

// The part of an image's config that shapes a process (OCI image-spec, config.md, "config").
struct ImageProcessConfig {
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> env;  // "NAME=value".
  std::string working_dir;
  std::string user;         // As written: "user", "uid", "user:group", …
  std::string stop_signal;  // As written: "SIGTERM", "15", …
  std::vector<std::string> volumes;
  std::map<std::string, std::string> labels;
};

// An image whose layers are all in place.
struct ContainerImage {
  std::string id;                      // 64 hexadecimal digits: the config's SHA-256, of an
                                       // artifact the manifest's.
  std::string ref;                     // "repository@digest" when known, else the id.
  std::string name;                    // The first "repository:tag"; empty if untagged.
  std::vector<std::string> chain_ids;  // Bottom layer first. None for an artifact without files.
  ImageProcessConfig config;           // Empty for an artifact.
  // Not empty: an OCI artifact of this type. It can be mounted as any image can (its layers hold
  // one file each), and no container can be made from it.
  std::string artifact_type;
};

// Finds images and keeps their layers from being deleted while somebody uses them. Thread-safe.
class ImageSource {
 public:
  virtual ~ImageSource() = default;

  // The image named by an id, a unique prefix of one, a tag, a digest or a short name, with its
  // layers pinned for `owner` (made from a container's id; it has one image at a time) until
  // Release. NOT_FOUND when it is not here. The layers stay even if the image is removed meanwhile.
  virtual absl::StatusOr<ContainerImage> Acquire(const std::string& reference,
                                                 const std::string& owner) = 0;
  // Pins layers for an owner known from a record, at start.
  virtual void Pin(const std::string& owner, const std::vector<std::string>& chain_ids) = 0;
  // Ends the owner's pin; layers nobody needs any more go. Does nothing for an unknown owner.
  virtual void Release(const std::string& owner) = 0;
};

}  // namespace imageservice
