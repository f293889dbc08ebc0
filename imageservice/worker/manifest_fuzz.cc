// Any bytes as manifest, index and config.
#include <string_view>

#include "imageservice/worker/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace worker = imageservice::worker;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto manifest = worker::ParseManifest(text, "");
  if (manifest.ok()) {
    if (const auto* index = std::get_if<worker::Index>(&*manifest)) {
      worker::ChooseManifest(*index, {"linux", "arm", "v7"}).status().IgnoreError();
    }
  }
  const auto config = worker::ParseImageConfig(text);
  if (config.ok()) {
    worker::CheckPlatform({"linux", "amd64", ""}, config->platform).IgnoreError();
  }
  return 0;
}
