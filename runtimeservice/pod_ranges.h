// The node's ranges of pod addresses, as the kubelet tells them once (UpdateRuntimeConfig).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace runtimeservice {

// The ranges in "10.1.0.0/24,fd00:1::/64"; none for an empty text. INVALID_ARGUMENT, naming
// runtime_config.network_config.pod_cidr, for anything else.
absl::StatusOr<std::vector<std::string>> ParsePodRanges(std::string_view text);

// Kept in a file, because the kubelet does not repeat them when the daemon starts again.
// Thread-safe.
class PodRanges {
 public:
  // Reads `path`; none when it is missing. What is damaged is logged and forgotten.
  explicit PodRanges(std::string path);

  // Takes new ranges, durably; an empty text changes nothing. The error of ParsePodRanges, or of
  // the disk.
  absl::Status Set(std::string_view text);
  std::vector<std::string> Get() const;

 private:
  const std::string path_;
  mutable base::Mutex mutex_;
  std::vector<std::string> ranges_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace runtimeservice
