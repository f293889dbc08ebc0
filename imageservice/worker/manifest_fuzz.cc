// Any bytes as manifest, index and config, and as the name of an artifact's file.
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/json.h"
#include "imageservice/worker/artifact.h"
#include "imageservice/worker/manifest.h"

namespace {

// What a name must be wherever it comes from.
void CheckName(const std::string& name) {
  const auto again = imageservice::worker::CleanArtifactName(name);
  const bool is_safe = again.ok() && *again == name && !name.starts_with('/') &&
                       ("/" + name + "/").find("/../") == std::string::npos;
  if (!is_safe) {
    abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace worker = imageservice::worker;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto name = worker::CleanArtifactName(text); name.ok()) {
    CheckName(*name);
  }
  const auto manifest = worker::ParseManifest(text, "");
  if (manifest.ok()) {
    if (const auto* index = std::get_if<worker::Index>(&*manifest)) {
      worker::ChooseManifest(*index, {"linux", "arm", "v7"}).status().IgnoreError();
    } else {
      const auto& parsed = std::get<worker::Manifest>(*manifest);
      for (const worker::Descriptor& blob : parsed.layers) {
        if (parsed.artifact_type.empty() != blob.file_name.empty()) abort();
        if (!blob.file_name.empty()) CheckName(blob.file_name);
      }
    }
  }
  // As the daemon reads it, without the worker's checks.
  if (const auto json = base::ParseJson(text); json.ok()) {
    worker::ArtifactTypeOf(*json).status().IgnoreError();
    worker::ParseArtifactFiles(*json).status().IgnoreError();
  }
  const auto config = worker::ParseImageConfig(text);
  if (config.ok()) {
    worker::CheckPlatform({"linux", "amd64", ""}, config->platform).IgnoreError();
  }
  return 0;
}
