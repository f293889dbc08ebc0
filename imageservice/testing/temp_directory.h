// A directory for one test, removed with everything in it.
#pragma once

#include <cstdlib>
#include <string>

#include "base/files.h"

namespace imageservice::testing {

// Layers hold trusted attributes, so it lies where these work.
class TempDirectory {
 public:
  TempDirectory() : path_("/var/tmp/crisp-image-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) {
      std::abort();
    }
  }
  ~TempDirectory() { base::RemoveTree(path_).IgnoreError(); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace imageservice::testing
