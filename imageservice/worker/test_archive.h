// For tests: archives byte by byte, honest and otherwise, and temporary directories.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace imageservice::worker {

struct TarEntry {
  std::string name = "";
  char type = '0';
  std::string content = "";
  std::string link = "";
  unsigned mode = 0644;
  unsigned uid = 0;
  unsigned gid = 0;
  int64_t mtime = 0;
  int64_t size = -1;  // What the header says; -1: the truth.
  unsigned major = 0;
  unsigned minor = 0;
  std::map<std::string, std::string> pax = {};  // Records of an extended header before the entry.
  std::map<size_t, std::string> patch = {};     // Bytes put into the header, under its checksum.
};

// The records of a PAX extended header.
std::string PaxRecords(const std::vector<std::pair<std::string, std::string>>& records);

// One entry with its header, padded.
std::string TarBytes(const TarEntry& entry);
// The archive with its end mark.
std::string Tar(const std::vector<TarEntry>& entries);

std::string Gzip(std::string_view bytes);
std::string Zstd(std::string_view bytes);

// A directory that is removed with what is in it.
class TempDirectory {
 public:
  TempDirectory();
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace imageservice::worker
