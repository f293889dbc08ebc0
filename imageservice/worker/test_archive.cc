#include "imageservice/worker/test_archive.h"

#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <cstring>

#include "base/files.h"

namespace imageservice::worker {
namespace {

// Fills the field but for its last byte.
void PutOctal(char* field, size_t width, uint64_t value) {
  for (size_t i = width - 1; i-- > 0; value /= 8) {
    field[i] = static_cast<char>('0' + value % 8);
  }
}

std::string Padded(std::string bytes) {
  bytes.resize((bytes.size() + 511) / 512 * 512);
  return bytes;
}

}  // namespace

std::string PaxRecords(const std::vector<std::pair<std::string, std::string>>& records) {
  std::string text;
  for (const auto& [key, value] : records) {
    const size_t rest = key.size() + value.size() + 3;
    size_t length = rest + 1;
    while (std::to_string(length).size() + rest != length) {
      ++length;
    }
    text += std::to_string(length) + " " + key + "=" + value + "\n";
  }
  return text;
}

std::string TarBytes(const TarEntry& entry) {
  std::string bytes;
  if (!entry.pax.empty()) {
    bytes = TarBytes(
        {.name = "pax", .type = 'x', .content = PaxRecords({entry.pax.begin(), entry.pax.end()})});
  }
  char header[512] = {};
  const bool has_content =
      entry.size >= 0 || std::string_view("0xgLKS7").find(entry.type) != std::string_view::npos;
  const uint64_t size = entry.size >= 0 ? static_cast<uint64_t>(entry.size) : entry.content.size();
  memcpy(header, entry.name.data(), std::min<size_t>(entry.name.size(), 100));
  PutOctal(header + 100, 8, entry.mode);
  PutOctal(header + 108, 8, entry.uid);
  PutOctal(header + 116, 8, entry.gid);
  PutOctal(header + 124, 12, has_content ? size : 0);
  PutOctal(header + 136, 12, static_cast<uint64_t>(entry.mtime));
  header[156] = entry.type;
  memcpy(header + 157, entry.link.data(), std::min<size_t>(entry.link.size(), 100));
  memcpy(header + 257,
         "ustar\0"
         "00",
         8);
  PutOctal(header + 329, 8, entry.major);
  PutOctal(header + 337, 8, entry.minor);
  for (const auto& [offset, text] : entry.patch) {
    memcpy(header + offset, text.data(), std::min(text.size(), sizeof(header) - offset));
  }
  memset(header + 148, ' ', 8);
  unsigned sum = 0;
  for (const char c : header) {
    sum += static_cast<unsigned char>(c);
  }
  PutOctal(header + 148, 7, sum);
  header[154] = '\0';
  bytes.append(header, sizeof(header));
  return bytes + Padded(entry.content);
}

std::string Tar(const std::vector<TarEntry>& entries) {
  std::string bytes;
  for (const TarEntry& entry : entries) {
    bytes += TarBytes(entry);
  }
  return bytes + std::string(1024, '\0');
}

std::string Gzip(std::string_view bytes) {
  z_stream stream = {};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

TempDirectory::TempDirectory() {
  char name[] = "/tmp/crisp-pull-test.XXXXXX";
  path_ = mkdtemp(name);
}

TempDirectory::~TempDirectory() { base::RemoveTree(path_).IgnoreError(); }

}  // namespace imageservice::worker
