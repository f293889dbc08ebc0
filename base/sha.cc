#include "base/sha.h"

#include <sha2.h>

#include <cstdint>

namespace base {

std::string Sha256Hex(std::string_view text) {
  char hex[SHA256_DIGEST_STRING_LENGTH];
  SHA256Data(reinterpret_cast<const uint8_t*>(text.data()), text.size(), hex);
  return hex;
}

std::string Sha512Hex(std::string_view text) {
  char hex[SHA512_DIGEST_STRING_LENGTH];
  SHA512Data(reinterpret_cast<const uint8_t*>(text.data()), text.size(), hex);
  return hex;
}

}  // namespace base
