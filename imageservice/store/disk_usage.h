// What trees take on disk, counted or measured.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace imageservice {

struct DiskUsage {
  uint64_t bytes = 0;  // Blocks in use, whatever the files' lengths say.
  uint64_t inodes = 0;

  DiskUsage& operator+=(const DiskUsage& other) {
    bytes += other.bytes;
    inodes += other.inodes;
    return *this;
  }
  friend bool operator==(const DiskUsage&, const DiskUsage&) = default;
};

// Looks at everything in the tree at `directory`, itself included, on its mount, without following
// symlinks; a file with several names counts once, provided all of them are in the tree. Slow: not
// for a request. What comes and goes meanwhile may be missed. CANCELLED once `stop` is set;
// RESOURCE_EXHAUSTED when the tree has more directories than the memory for it (16 MiB of names
// waiting) can hold.
absl::StatusOr<DiskUsage> MeasureTree(const std::string& directory, const std::atomic<bool>& stop);

}  // namespace imageservice
