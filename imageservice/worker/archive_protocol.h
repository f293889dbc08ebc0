// What the daemon and `crisp-pull archive` say (protocol.h has the frames, and the pulls that read
// from an archive). One request per worker, as the first message:
//
//   daemon → worker   list | save        once
//   worker → daemon   progress, warning  any number, any time
//   worker → daemon   listing | saved | error           last; then the worker exits
//
// EOF ends the worker at once; cancelling is killing it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "imageservice/worker/protocol.h"

namespace imageservice::worker {

inline constexpr char kArchiveArgument[] = "archive";  // The worker's only one, for these requests.
inline constexpr size_t kMaxSavedImages = 12;          // With their configs they fit a frame.

// --- daemon → worker ----------------------------------------------------------------------------

// Which images are in the archive?
struct ListRequest {
  std::string path;  // Absolute: a tar archive or a directory.
  Platform platform;
};

enum class ArchiveFormat { kOciArchive, kDockerArchive, kOciLayout };
enum class ArchiveCompression { kNone, kGzip, kZstd };

// One image to write.
struct ImageToSave {
  std::string config;  // The document as stored; its diff IDs are replaced.
  // Only of an OCI artifact: the document as stored, which names the files. It is written as it is,
  // as are config and files, uncompressed; `directories` are the files' layers.
  std::string manifest;
  std::vector<std::string> names;        // "registry/repository:tag".
  std::vector<std::string> directories;  // Absolute; the overlay layers, bottom layer first.
};

// Write the archive.
struct SaveRequest {
  std::string path;  // Absolute: an empty file, for a layout an empty directory.
  ArchiveFormat format = ArchiveFormat::kOciArchive;
  ArchiveCompression compression = ArchiveCompression::kNone;
  std::vector<ImageToSave> images;
};

using ArchiveRequest = std::variant<ListRequest, SaveRequest>;

// --- worker → daemon ----------------------------------------------------------------------------

// An image in an archive, as its author says: foreign text.
struct ArchivedImage {
  std::string selector;            // What a PullRequest of this archive has as its tag.
  std::vector<std::string> names;  // As written; may be no references at all.
  bool has_manifest = false;       // The archive has its manifest, so it has a digest of its own.
};
struct ArchiveListing {
  std::vector<ArchivedImage> images;
};

// The archive is complete.
struct SavedArchive {
  std::vector<std::string> image_ids;  // In the archive, in the order of the request: 64 digits.
};

using ArchiveReply = std::variant<Progress, Warning, ArchiveListing, SavedArchive, Failed>;

// --- codec --------------------------------------------------------------------------------------

std::string EncodeArchive(const ArchiveRequest& request);
std::string EncodeArchive(const ArchiveReply& reply);

// INVALID_ARGUMENT for anything malformed.
absl::StatusOr<ArchiveRequest> ParseArchiveRequest(std::string_view json);
absl::StatusOr<ArchiveReply> ParseArchiveReply(std::string_view json);

}  // namespace imageservice::worker
