// SHA-256 and SHA-512 (FIPS 180-4) of texts that are in memory.
#pragma once

#include <string>
#include <string_view>

namespace base {

// 64 lower-case hexadecimal digits.
std::string Sha256Hex(std::string_view text);

// 128 lower-case hexadecimal digits.
std::string Sha512Hex(std::string_view text);

}  // namespace base
