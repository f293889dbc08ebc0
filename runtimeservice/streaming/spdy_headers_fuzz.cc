// Header blocks as a client may send them, several on one zlib stream: each within the limits, or
// an error; what was understood is understood again when we send it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtimeservice/streaming/spdy_headers.h"

namespace {

constexpr size_t kLimit = 4096;
constexpr std::string_view kSyncFlush("\0\0\xff\xff", 4);

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  streaming::SpdyInflater inflater(kLimit);
  streaming::SpdyInflater again(kLimit);
  streaming::SpdyDeflater deflater;
  // Raw blocks are parsed as they are, too: most of what is made up is no zlib stream.
  const auto raw = streaming::SpdyHeaders::Parse(input);
  Require(!raw.ok() || raw->Serialize() == input);
  while (!input.empty()) {
    const size_t end = input.find(kSyncFlush);
    const size_t length = end == std::string_view::npos ? input.size() : end + kSyncFlush.size();
    const auto block = inflater.Inflate(input.substr(0, length));
    input.remove_prefix(length);
    if (!block.ok()) {
      continue;
    }
    Require(block->size() <= kLimit);
    const auto headers = streaming::SpdyHeaders::Parse(*block);
    if (headers.ok()) {
      Require(headers->size() <= streaming::kMaxSpdyHeaders);
      const auto back = again.Inflate(deflater.Deflate(headers->Serialize()));
      Require(back.ok() && *back == *block);
    }
  }
  return 0;
}
