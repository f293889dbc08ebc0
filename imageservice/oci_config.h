// The config document of an image (OCI image-spec, config.md), as far as crisp uses it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "imageservice/image.h"

namespace imageservice {

// What a config says.
struct OciConfig {
  ImageProcessConfig process;
  std::vector<std::string> diff_ids;  // 64 hexadecimal digits each, bottom layer first.
};

// Reads a config document. Unknown members are ignored, `config` may be null or absent, Entrypoint
// and Cmd may be a plain string, as old images have it. INVALID_ARGUMENT for anything that is no
// config: wrong types, a rootfs that is not made of layers, diff IDs that are not SHA-256.
absl::StatusOr<OciConfig> ParseOciConfig(std::string_view json);

}  // namespace imageservice
