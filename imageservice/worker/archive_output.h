// Where a saved archive goes: blobs and documents into one tar archive, or into a layout's
// directory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace imageservice::worker {

// One blob at a time; one thread. After an error the archive is broken.
class ArchiveOutput {
 public:
  virtual ~ArchiveOutput() = default;

  // Into the directory or regular file that `fd` is, which is empty.
  static absl::StatusOr<std::unique_ptr<ArchiveOutput>> Create(base::UniqueFd fd);

  // A blob of which neither digest nor size is known yet: any number of writes, then its end, which
  // tells the digest ("sha256:…"). One that is there already is not added again.
  virtual absl::Status BeginBlob() = 0;
  virtual absl::Status Write(std::string_view bytes) = 0;
  virtual absl::Status EndBlob(const std::string& digest) = 0;

  // A whole file.
  virtual absl::Status AddFile(const std::string& path, std::string_view content) = 0;

  // The archive is complete; its bytes are on the disk.
  virtual absl::Status Finish() = 0;
};

// "blobs/sha256/<hex>" for "sha256:<hex>".
std::string BlobPath(std::string_view digest);

}  // namespace imageservice::worker
