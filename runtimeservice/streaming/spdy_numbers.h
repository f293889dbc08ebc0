// SPDY's numbers: 32 bits, the highest byte first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace streaming {

inline void AppendSpdyNumber(uint32_t number, std::string* bytes) {
  for (const int shift : {24, 16, 8, 0}) {
    bytes->push_back(static_cast<char>(number >> shift));
  }
}

// The number that `bytes` (at least four) begin with.
inline uint32_t SpdyNumber(std::string_view bytes) {
  uint32_t number = 0;
  for (const char byte : bytes.substr(0, 4)) {
    number = number << 8 | static_cast<uint8_t>(byte);
  }
  return number;
}

}  // namespace streaming
