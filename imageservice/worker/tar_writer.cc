#include "imageservice/worker/tar_writer.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "absl/strings/str_format.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kNameBytes = 100;
constexpr uint64_t kMaxId = 07777777;
constexpr uint64_t kMaxSize = 077777777777;
constexpr char kPaxPath[] = "@PaxHeader";

// Octal digits and a NUL; zero for what does not fit, which a PAX record then says.
void PutOctal(char* field, size_t width, uint64_t value) {
  const bool fits = value >> (3 * (width - 1)) == 0;
  value = fits ? value : 0;
  for (size_t i = width - 1; i-- > 0; value /= 8) {
    field[i] = static_cast<char>('0' + value % 8);
  }
}

// Base 256, as GNU tar has it.
void PutBinary(char* field, size_t width, uint64_t value) {
  for (size_t i = width; i-- > 0; value >>= 8) {
    field[i] = static_cast<char>(value & 0xff);
  }
  field[0] = static_cast<char>(0x80);
}

void PutText(char* field, size_t width, std::string_view text) {
  memcpy(field, text.data(), std::min(text.size(), width));
}

// Fills the checksum in.
std::string Finished(char* header) {
  memset(header + 148, ' ', 8);
  unsigned sum = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    sum += static_cast<unsigned char>(header[i]);
  }
  PutOctal(header + 148, 7, sum);
  header[154] = '\0';
  return {header, kBlock};
}

std::string UstarHeader(const TarFile& file, std::string_view path) {
  char header[kBlock] = {};
  const bool has_content = file.type == TarFile::Type::kFile;
  PutText(header, kNameBytes, path);
  PutOctal(header + 100, 8, file.mode);
  PutOctal(header + 108, 8, file.uid);
  PutOctal(header + 116, 8, file.gid);
  PutOctal(header + 124, 12, has_content ? file.size : 0);
  PutOctal(header + 136, 12, file.mtime.tv_sec < 0 ? 0 : static_cast<uint64_t>(file.mtime.tv_sec));
  header[156] = static_cast<char>(file.type);
  PutText(header + 157, kNameBytes, file.link);
  memcpy(header + 257, "ustar\00000", 8);
  PutOctal(header + 329, 8, major(file.device));
  PutOctal(header + 337, 8, minor(file.device));
  return Finished(header);
}

// A record's length counts its own digits.
void AddRecord(std::string_view key, std::string_view value, std::string* records) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) {
    ++length;
  }
  *records += base::StrCat(length, " ", key, "=", value, "\n");
}

bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t more = lead < 0x80 ? 0 : lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || i + more >= text.size()) {
      return false;
    }
    for (size_t k = 1; k <= more; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    i += more + 1;
  }
  return true;
}

// Whole seconds since the epoch stand in the header; all else in a record.
bool NeedsTimeRecord(const timespec& time) {
  return time.tv_nsec != 0 || time.tv_sec < 0 || static_cast<uint64_t>(time.tv_sec) > kMaxSize;
}

std::string TimeText(const timespec& time) {
  // The fraction counts upwards: half a second before the epoch is -1 s and 500,000,000 ns.
  int64_t seconds = time.tv_sec;
  int64_t nanoseconds = time.tv_nsec;
  const bool is_negative = seconds < 0;
  if (is_negative && nanoseconds > 0) {
    seconds += 1;
    nanoseconds = 1'000'000'000 - nanoseconds;
  }
  std::string text = base::StrCat(is_negative ? "-" : "", is_negative ? -seconds : seconds);
  if (nanoseconds != 0) {
    text += absl::StrFormat(".%09d", nanoseconds);
    text.erase(text.find_last_not_of('0') + 1);
  }
  return text;
}

std::string PaxRecords(const TarFile& file, const std::string& path) {
  std::string records;
  const bool is_long = path.size() > kNameBytes;
  const bool is_long_link = file.link.size() > kNameBytes;
  if ((is_long && !IsUtf8(path)) || (is_long_link && !IsUtf8(file.link))) {
    AddRecord("hdrcharset", "BINARY", &records);
  }
  if (is_long) AddRecord("path", path, &records);
  if (is_long_link) AddRecord("linkpath", file.link, &records);
  if (file.size > kMaxSize) AddRecord("size", std::to_string(file.size), &records);
  if (file.uid > kMaxId) AddRecord("uid", std::to_string(file.uid), &records);
  if (file.gid > kMaxId) AddRecord("gid", std::to_string(file.gid), &records);
  if (NeedsTimeRecord(file.mtime)) AddRecord("mtime", TimeText(file.mtime), &records);
  for (const auto& [name, value] : file.xattrs) {
    AddRecord(base::StrCat("SCHILY.xattr.", name), value, &records);
  }
  return records;
}

}  // namespace

std::string TarFileHeader(const TarFile& file) {
  const std::string path = file.type == TarFile::Type::kDirectory ? file.path + "/" : file.path;
  const std::string records = PaxRecords(file, path);
  std::string bytes;
  if (!records.empty()) {
    TarFile extended;
    extended.mode = 0644;
    extended.size = records.size();
    bytes = UstarHeader(extended, kPaxPath);
    bytes[156] = 'x';
    bytes = Finished(bytes.data()) + records + TarPadding(records.size());
  }
  return bytes + UstarHeader(file, path);
}

std::string TarBlobHeader(const std::string& path, uint64_t size) {
  std::string header = UstarHeader({.path = path, .mode = 0644, .size = size}, path);
  if (size > kMaxSize) {
    PutBinary(header.data() + 124, 12, size);
  }
  return Finished(header.data());
}

std::string TarPadding(uint64_t size) {
  return std::string((kBlock - size % kBlock) % kBlock, '\0');
}

std::string TarEnd() { return std::string(2 * kBlock, '\0'); }

}  // namespace imageservice::worker
