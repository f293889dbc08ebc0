// Hook files; the patterns of what is one can be asked.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "runtimeservice/devices/oci_hooks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto file = runtimeservice::ParseOciHookFile(text);
  if (file.ok()) {
    const std::map<std::string, std::string> annotations = {{"io.example/name", "value"}};
    runtimeservice::HookMatches(*file, {.annotations = annotations, .command = "/bin/sh"});
  }
  return 0;
}
