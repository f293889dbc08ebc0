// Whatever parses prints to something that parses to the same thing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "imageservice/reference.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<imageservice::Reference> reference = imageservice::Reference::Parse(text);
  imageservice::IsShortName(text);
  imageservice::ImageIdOf(text);
  if (reference.ok()) {
    const absl::StatusOr<imageservice::Reference> again =
        imageservice::Reference::Parse(reference->str());
    if (!again.ok() || again->str() != reference->str()) {
      std::abort();
    }
  }
  return 0;
}
