// Where the documents of an image come from: a registry or an archive.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace imageservice::worker {

// A manifest or index as its source has it.
struct Document {
  std::string body;
  std::string media_type;  // As the source says, without parameters; empty when it does not.
  std::string digest;      // Of the body; verified.
};

// Thread-safe. Errors name what was asked for.
class ContentSource {
 public:
  virtual ~ContentSource() = default;

  // The manifest or index `reference`, a digest or what else the source knows it by: a tag, or an
  // image of the archive's listing.
  virtual absl::StatusOr<Document> GetManifest(const std::string& reference) = 0;

  // A blob of at most `max_bytes`, verified.
  virtual absl::StatusOr<std::string> GetSmallBlob(const std::string& digest, size_t max_bytes) = 0;
};

}  // namespace imageservice::worker
