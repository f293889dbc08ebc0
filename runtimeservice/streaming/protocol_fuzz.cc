// Frames of the control socket in two cuts, and the requests in them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "runtimeservice/streaming/protocol.h"

namespace {

std::vector<std::string> Messages(std::string_view first, std::string_view second) {
  std::vector<std::string> messages;
  streaming::FrameReader frames;
  for (const std::string_view piece : {first, second}) {
    frames.Append(piece);
    for (;;) {
      const auto next = frames.Next();
      if (!next.ok() || !next->has_value()) {
        break;
      }
      crisp::stream::Request request;
      if (request.ParseFromString(**next) && !streaming::EncodeFrame(request).ok()) {
        abort();
      }
      messages.push_back(**next);
    }
  }
  return messages;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  const size_t cut = bytes.size() * data[0] / 255;
  if (Messages(bytes, "") != Messages(bytes.substr(0, cut), bytes.substr(cut))) {
    abort();
  }
  return 0;
}
