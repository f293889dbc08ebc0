// A small file system for one test, unmounted when it goes.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/files.h"
#include "base/mounts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"

namespace imageservice::testing {

// Runs a program of the host; its last words when it fails.
inline absl::Status RunHostProgram(std::vector<std::string> argv) {
  base::Command command;
  command.argv = {"/usr/bin/env"};
  command.argv.insert(command.argv.end(), argv.begin(), argv.end());
  command.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  ASSIGN_OR_RETURN(const base::CommandResult result,
                   base::RunCommand(base::Context::Detached(absl::Seconds(60)), command));
  return result.exit.code == 0 ? absl::OkStatus()
                               : absl::UnknownError(base::StrCat(argv[0], ": ", result.err));
}

class ScopedFileSystem {
 public:
  // A tmpfs of `bytes` at `path`, which is made.
  static absl::StatusOr<ScopedFileSystem> Tmpfs(const std::string& path, uint64_t bytes) {
    RETURN_IF_ERROR(base::MakeDirectories(path));
    RETURN_IF_ERROR(base::MountTmpfs(path, bytes, 0755));
    return ScopedFileSystem(path);
  }
  // An ext4 in the file `image`, made with further arguments for mkfs.ext4 and mounted with
  // `options` (beside "loop").
  static absl::StatusOr<ScopedFileSystem> Ext4(const std::string& image, const std::string& path,
                                               std::vector<std::string> arguments,
                                               const std::string& options) {
    RETURN_IF_ERROR(base::MakeDirectories(path));
    RETURN_IF_ERROR(RunHostProgram({"truncate", "-s", "64M", image}));
    arguments.insert(arguments.begin(), {"mkfs.ext4", "-q"});
    arguments.push_back(image);
    RETURN_IF_ERROR(RunHostProgram(arguments));
    RETURN_IF_ERROR(
        RunHostProgram({"mount", "-t", "ext4", "-o", base::StrCat("loop,", options), image, path}));
    return ScopedFileSystem(path);
  }

  const std::string& path() const { return mount_.target(); }

 private:
  explicit ScopedFileSystem(std::string path) : mount_(std::move(path)) {}

  base::ScopedMount mount_;
};

}  // namespace imageservice::testing
