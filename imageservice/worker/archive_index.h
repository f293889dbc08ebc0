// Where the files of an image archive lie: the headers of a tar archive, without its content.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageservice::worker {

// The bytes of a file within its archive.
struct ArchiveExtent {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// The index of one tar archive (ustar, PAX, GNU). Immutable value.
class ArchiveIndex {
 public:
  // Reads `size` bytes at `offset` into `buffer`: how many there were, fewer only at the end.
  using ReadAt = std::function<absl::StatusOr<size_t>(uint64_t offset, char* buffer, size_t size)>;

  // Reads every header of an archive of `file_bytes` bytes; contents are skipped, not read.
  // INVALID_ARGUMENT for what is no tar archive, cut off, malformed or has names that lead out of
  // it; RESOURCE_EXHAUSTED beyond 100,000 entries or 32 MiB of names, which no image archive has.
  static absl::StatusOr<ArchiveIndex> Read(const ReadAt& read, uint64_t file_bytes);

  // The file at `path`, through links within the archive. NOT_FOUND when there is none;
  // INVALID_ARGUMENT for links that lead out or in circles.
  absl::StatusOr<ArchiveExtent> Find(std::string_view path) const;

 private:
  struct Entry {
    ArchiveExtent extent;
    std::string target;  // Of a link, as a path of the archive; empty: a file.
  };

  absl::Status Add(const std::string& path, Entry entry);

  std::map<std::string, Entry> entries_;
  uint64_t name_bytes_ = 0;
  bool has_end_ = false;

  friend class ArchiveIndexReader;
};

}  // namespace imageservice::worker
