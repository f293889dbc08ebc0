// Archive stream → entries with their content, whatever of the tar formats wrote it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageservice/worker/tar_header.h"

namespace imageservice::worker {

// One file of an archive.
struct ArchiveEntry {
  enum class Type {
    kFile,
    kHardLink,
    kSymlink,
    kCharacterDevice,
    kBlockDevice,
    kDirectory,
    kFifo,
  };
  Type type = Type::kFile;
  std::string path;  // Any bytes but NUL; not cleaned.
  std::string link;  // The target of a hard link or symlink.
  FileMetadata metadata;
  uint32_t major = 0;  // Of devices.
  uint32_t minor = 0;
  uint64_t size = 0;  // Of a file, with its holes.
};

// Reads a tar archive: ustar, PAX and GNU (long names, base-256 numbers, sparse files of all four
// formats), star, the seventh edition's. PAX records come before GNU's long names, these before the
// header; global PAX headers are skipped, as containerd and containers/storage do.
//
// INVALID_ARGUMENT for an archive that is damaged, ends within an entry or has an entry of a type
// no layer has. Memory is bounded: extended headers may have 1 MiB, sparse files a million extents.
// One thread.
class TarReader {
 public:
  // Reads from the descriptor `input`, which stays the caller's and need not be seekable.
  explicit TarReader(int input);

  // Goes on to the next entry, past what is unread of the present one's content; false at the end.
  // An empty stream is an empty archive. After an error `entry` has the path, if that is known yet.
  absl::StatusOr<bool> Next(ArchiveEntry* entry);

  // The next piece of the present file's content, in rising order of offsets; what lies between the
  // pieces is zero. Empty at the end. The bytes are valid until the next call.
  struct Piece {
    uint64_t offset = 0;
    std::string_view bytes;
  };
  absl::StatusOr<Piece> ReadContent();

  // Reads and drops what is left of the stream.
  absl::Status Drain();

 private:
  absl::StatusOr<size_t> Fill(size_t wanted);
  std::string_view Take(size_t size);
  absl::StatusOr<std::string_view> TakeBlock();
  absl::Status SkipContent();
  absl::StatusOr<bool> ReadHeader(TarHeader* header);
  absl::StatusOr<std::string> ReadSpecial(const TarHeader& header);
  absl::StatusOr<std::vector<Extent>> ReadSparse10Map();
  absl::StatusOr<uint64_t> ReadNumberLine(std::string_view* block);
  absl::Status FinishEntry(TarHeader header, PaxHeader pax, ArchiveEntry* entry);
  absl::Status PrepareContent(bool is_old_sparse, PaxHeader pax, ArchiveEntry* entry);
  absl::Status ReadOldSparseMap(std::vector<Extent>* extents, ArchiveEntry* entry);
  absl::Status CheckExtents(uint64_t size) const;

  const int input_;
  std::vector<char> buffer_;
  size_t begin_ = 0;  // Of what is unread in the buffer.
  size_t end_ = 0;

  std::string header_block_;     // Of the present entry.
  uint64_t stored_ = 0;          // Bytes of the present entry still to come.
  uint64_t padding_ = 0;         // And of filler after them.
  std::vector<Extent> extents_;  // Where they belong; the first ones are done.
  size_t extent_ = 0;
};

}  // namespace imageservice::worker
