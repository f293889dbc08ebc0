#include "base/id.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdlib>

namespace base {

std::string RandomHex64() {
  unsigned char bytes[32];
  // Never short for 256 bytes or less, once the kernel's pool is ready.
  if (getrandom(bytes, sizeof(bytes), 0) != static_cast<ssize_t>(sizeof(bytes))) {
    std::abort();
  }
  std::string text;
  for (const unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

absl::Status CheckHex64(std::string_view text) {
  const bool hex = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (text.size() != 64 || !hex) {
    return absl::InvalidArgumentError("not an id: 64 lower-case hexadecimal digits are wanted");
  }
  return absl::OkStatus();
}

}  // namespace base
