#include "imageservice/worker/artifact_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/files.h"
#include "base/status_macros.h"

namespace imageservice::worker {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr uint64_t kWriteBackBytes = 16 << 20;

// What a pull has to sync at its end is little when the disk has worked meanwhile: each piece is
// handed to it once it is written. A hint, whose errors are the sync's.
absl::Status Copy(int input, int file) {
  std::vector<char> buffer(kBufferBytes);
  uint64_t end = 0;
  uint64_t handed_over = 0;
  for (;;) {
    const ssize_t n = read(input, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return base::ErrnoStatus(errno, "read the blob");
    }
    if (n == 0) {
      break;
    }
    RETURN_IF_ERROR(
        base::WriteAll(file, {buffer.data(), static_cast<size_t>(n)}, "the artifact's file"));
    end += static_cast<uint64_t>(n);
    if (end - handed_over >= kWriteBackBytes) {
      sync_file_range(file, static_cast<off_t>(handed_over), static_cast<off_t>(end - handed_over),
                      SYNC_FILE_RANGE_WRITE);
      handed_over = end;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LayerTree::Summary> WriteArtifactFile(int input, int root, const std::string& name) {
  umask(0);
  LayerTree tree(root);
  FileMetadata folder;
  folder.mode = 0755;
  RETURN_IF_ERROR(tree.AddDirectory(".", folder));
  for (size_t slash = name.find('/'); slash != std::string::npos;
       slash = name.find('/', slash + 1)) {
    RETURN_IF_ERROR(tree.AddDirectory(name.substr(0, slash), folder));
  }
  FileMetadata metadata;
  metadata.mode = 0644;
  ASSIGN_OR_RETURN(const base::UniqueFd file, tree.AddFile(name, metadata));
  RETURN_IF_ERROR(Copy(input, file.get()));
  RETURN_IF_ERROR(tree.CompleteFile(file.get(), metadata));
  return tree.Finish();
}

}  // namespace imageservice::worker
