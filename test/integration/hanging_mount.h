// A file system whose server does not answer, as a network file system can be.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mounts.h"
#include "base/unique_fd.h"

namespace test {

// A FUSE file system at a path, with this object as its server: it says what it is when the kernel
// asks first, and nothing ever after. Whoever asks for a file in it hangs until this object goes.
class HangingMount {
 public:
  // FAILED_PRECONDITION where there is no FUSE. `path` is an existing directory.
  static absl::StatusOr<HangingMount> Make(const std::string& path);
  HangingMount(HangingMount&&) = default;

  // Waits until somebody has asked for a file; false when nobody does.
  bool SomebodyHangs(absl::Duration timeout = absl::Seconds(20)) const;

 private:
  HangingMount(std::string path, base::UniqueFd server)
      : mount_(std::move(path)), server_(std::move(server)) {}

  base::ScopedMount mount_;
  base::UniqueFd server_;  // Closed first, which ends all requests with an error.
};

}  // namespace test
