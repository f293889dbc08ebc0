// registries.conf: what it makes of names are names.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "imageservice/reference.h"
#include "imageservice/registries_config.h"
#include "imageservice/registries_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  imageservice::RegistriesData aliases;
  imageservice::ReadAliasFile(text, "fuzz", &aliases).IgnoreError();
  imageservice::RegistriesConfig config;
  if (const absl::Status merged = config.Merge(text, "fuzz"); !merged.ok()) {
    if (merged.message().substr(0, 4) != "fuzz") {
      std::abort();
    }
    return 0;
  }
  for (const std::string_view name : {"app:1", "team/app", "a.io/b", "x.a.io:5000/b/c:t"}) {
    config.LocalCandidates(name).status().IgnoreError();
    const auto candidates = config.Candidates(name);
    for (size_t i = 0; candidates.ok() && i < candidates->size(); ++i) {
      const auto endpoints = config.Endpoints((*candidates)[i], {"a.io", "*.b.io"});
      for (size_t j = 0; endpoints.ok() && j < endpoints->size(); ++j) {
        if (!imageservice::IsRegistryHost((*endpoints)[j].reference.domain())) {
          std::abort();
        }
      }
    }
  }
  return 0;
}
