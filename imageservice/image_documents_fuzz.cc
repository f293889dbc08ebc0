// The documents the daemon's side reads: image configs, registries.conf, auth.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "imageservice/credentials.h"
#include "imageservice/oci_config.h"
#include "imageservice/registries_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  if (data[0] % 3 == 0) {
    imageservice::ParseOciConfig(text).status().IgnoreError();
  } else if (data[0] % 3 == 1) {
    imageservice::RegistriesConfig config;
    config.Merge(text, "fuzz").IgnoreError();
    config.Candidates("app:1").status().IgnoreError();
  } else {
    imageservice::AuthFile::Parse(text).status().IgnoreError();
  }
  return 0;
}
