// The config documents of images, which the daemon reads.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "imageservice/oci_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  imageservice::ParseOciConfig(text).status().IgnoreError();
  return 0;
}
