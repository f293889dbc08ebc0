// YAML documents of any kind: what was read can be written as JSON and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<base::Json> value = base::ParseYaml(text);
  if (value.ok() && base::ParseJson(base::DumpJson(*value)).value() != *value) {
    std::abort();
  }
  return 0;
}
