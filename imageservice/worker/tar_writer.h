// One header of a tar archive, written: the same file always gives the same bytes.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace imageservice::worker {

// What a header says. Names are bytes of any kind.
struct TarFile {
  // Type flags of POSIX ustar.
  enum class Type : char {
    kFile = '0',
    kHardLink = '1',
    kSymlink = '2',
    kCharacterDevice = '3',
    kBlockDevice = '4',
    kDirectory = '5',
    kFifo = '6',
  };
  Type type = Type::kFile;
  std::string path;  // Without a slash at the end.
  std::string link;  // The target of a hard link or symlink.
  mode_t mode = 0;   // Permission bits.
  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t size = 0;  // Of a file's content.
  timespec mtime = {};
  dev_t device = 0;  // Of a device.
  std::vector<std::pair<std::string, std::string>>
      xattrs;  // In the order in which they are written.
};

// The header, whole blocks of 512 bytes: ustar, with a PAX header before it for what ustar cannot
// say (long names, large numbers, parts of a second, xattrs).
std::string TarFileHeader(const TarFile& file);

// The header of a file in one block whatever its size, which larger than 8 GiB goes as GNU tar
// writes it. `path` has at most 100 bytes.
std::string TarBlobHeader(const std::string& path, uint64_t size);

// The filler after a content of `size` bytes.
std::string TarPadding(uint64_t size);

// The end mark.
std::string TarEnd();

}  // namespace imageservice::worker
