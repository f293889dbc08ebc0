// The vectors of spdy_vectors.inc for tests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/strings.h"

namespace streaming {

struct SpdyVector {
  std::string_view group;
  std::string_view sender;
  std::string_view frame;
  std::string_view hex;
  std::string_view raw_hex;

  std::string bytes() const { return absl::HexStringToBytes(base::ToAbsl(hex)); }
  std::string raw() const { return absl::HexStringToBytes(base::ToAbsl(raw_hex)); }
};

inline const std::vector<SpdyVector>& SpdyVectors() {
  static const std::vector<SpdyVector> vectors = {
#include "runtimeservice/streaming/spdy_vectors.inc"
  };
  return vectors;
}

// The frames of `group` that `sender` sent, one behind the other.
inline std::string SpdyConversation(std::string_view group, std::string_view sender) {
  std::string bytes;
  for (const SpdyVector& vector : SpdyVectors()) {
    if (vector.group == group && vector.sender == sender) {
      bytes += vector.bytes();
    }
  }
  return bytes;
}

}  // namespace streaming
