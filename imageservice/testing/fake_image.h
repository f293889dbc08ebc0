// The images that crisp-fake-pull-worker serves: one letter (a to f) is one layer.
#pragma once

#include <string>
#include <vector>

namespace imageservice::testing {

// An image's documents, which belong together as real ones do.
struct FakeImage {
  std::string config;
  std::string manifest;
  std::string index;
  std::string id;               // 64 hexadecimal digits, as those below.
  std::string manifest_digest;  // "sha256:…", as index_digest.
  std::string index_digest;
  std::vector<std::string> diff_ids;
  std::vector<std::string> chain_ids;
};

// `letters` name the layers from the bottom up.
FakeImage MakeFakeImage(const std::string& letters);

}  // namespace imageservice::testing
