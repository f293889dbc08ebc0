// What one header of a tar archive says: numbers, PAX records, the ustar block. Bytes are kept as
// they are: names need not be text of any character set.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageservice::worker {

inline constexpr size_t kTarBlock = 512;

// What an archive says of a file besides its name and content.
struct FileMetadata {
  mode_t mode = 0;  // Permission bits with setuid, setgid and sticky.
  uid_t uid = 0;
  gid_t gid = 0;
  timespec atime = {};
  timespec mtime = {};
  std::vector<std::pair<std::string, std::string>> xattrs;
};

// A part of a sparse file that has data.
struct Extent {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// A header block (POSIX ustar, GNU tar, star or the seventh edition's).
struct TarHeader {
  char type = '0';  // The type flag.
  std::string path;
  std::string link;
  int64_t mode = 0;
  int64_t uid = 0;
  int64_t gid = 0;
  int64_t size = 0;  // Of what follows in the archive.
  int64_t mtime = 0;
  int64_t major = 0;
  int64_t minor = 0;
};

// What PAX records say of the next entry (POSIX pax, "Extended Header"); nullopt: nothing.
struct PaxHeader {
  std::optional<std::string> path;
  std::optional<std::string> link;
  std::optional<uint64_t> size;
  std::optional<int64_t> uid;
  std::optional<int64_t> gid;
  std::optional<timespec> mtime;
  std::optional<timespec> atime;
  std::vector<std::pair<std::string, std::string>> xattrs;

  // GNU tar's sparse files, in its three PAX formats: 0.0 and 0.1 list the extents here, 1.0 before
  // the data.
  bool has_sparse_map = false;
  bool is_sparse_1_0 = false;
  std::optional<std::string> sparse_name;
  std::optional<uint64_t> sparse_size;
  std::vector<Extent> extents;
};

// The number in a field of a header: octal digits between spaces and NULs, or, marked by the
// highest bit, two's complement. INVALID_ARGUMENT for anything else and what int64_t cannot hold.
absl::StatusOr<int64_t> ParseTarNumber(std::string_view field);

// The header in `block`, which has kTarBlock bytes and is not all zero; INVALID_ARGUMENT when its
// checksum is wrong or a field is malformed.
absl::StatusOr<TarHeader> ParseTarHeader(std::string_view block);

// The extents that a header of type 'S' (GNU, old format) lists, with the size of the whole file
// and whether a block with more of them follows.
struct OldSparseMap {
  std::vector<Extent> extents;
  uint64_t size = 0;
  bool has_more = false;
};
absl::StatusOr<OldSparseMap> ParseOldSparseMap(std::string_view block);

// Adds the extents of such a following block; true when yet another one follows.
absl::StatusOr<bool> ParseOldSparseExtension(std::string_view block, std::vector<Extent>* extents);

// The records "LENGTH KEY=VALUE\n" of an extended header. Unknown keys are skipped; an empty value
// means what no record means. INVALID_ARGUMENT for records that are malformed.
absl::StatusOr<PaxHeader> ParsePaxHeader(std::string_view records);

}  // namespace imageservice::worker
