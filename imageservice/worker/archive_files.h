// The files of an image archive by name: of a tar archive or of a directory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "imageservice/worker/layer_stream.h"

namespace imageservice::worker {

// One file, open for reading. Copies share the descriptor; any thread.
class ArchivedFile {
 public:
  // `size` bytes of `fd` from `offset` on.
  ArchivedFile(std::shared_ptr<const base::UniqueFd> fd, uint64_t offset, uint64_t size)
      : fd_(std::move(fd)), offset_(offset), size_(size) {}

  uint64_t size() const { return size_; }
  // The whole content; RESOURCE_EXHAUSTED when it is longer than `max_bytes`.
  absl::StatusOr<std::string> ReadAll(size_t max_bytes) const;
  // The content in pieces, from its beginning. DATA_LOSS when it ends before its size.
  ByteSource Stream() const;

 private:
  std::shared_ptr<const base::UniqueFd> fd_;
  uint64_t offset_;
  uint64_t size_;
};

// Thread-safe once made.
class ArchiveFiles {
 public:
  virtual ~ArchiveFiles() = default;

  // The files below the directory or in the tar archive that `fd` is. INVALID_ARGUMENT for anything
  // else; for a compressed archive the message says how to load it.
  static absl::StatusOr<std::unique_ptr<ArchiveFiles>> Open(base::UniqueFd fd);

  // The regular file at `path`, which is relative. NOT_FOUND when there is none.
  virtual absl::StatusOr<ArchivedFile> Find(std::string_view path) const = 0;
};

}  // namespace imageservice::worker
