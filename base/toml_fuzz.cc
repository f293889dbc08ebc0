// TOML documents of any kind.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/toml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  base::ParseToml(text, "fuzz").status().IgnoreError();
  return 0;
}
