// The files of `crisp image load` and `save` on the caller's side: what the daemon is told to read,
// and an output that appears when it is complete.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace crispd {

// An archive to load.
class ArchiveInput {
 public:
  // `file` as typed; "-" is standard input, which is copied into a file without a name unless it is
  // a file itself.
  static absl::StatusOr<ArchiveInput> Open(const std::string& file);

  // Where the daemon finds it.
  const std::string& path() const { return path_; }
  // For people.
  const std::string& name() const { return name_; }

 private:
  std::string path_;
  std::string name_;
  base::UniqueFd spool_;
};

// An archive to be written: under another name beside its own until it is complete.
class ArchiveOutputPath {
 public:
  enum class Kind { kFile, kDirectory };
  enum class Existing { kRefuse, kReplace };

  // Makes the empty file or directory. `file` as typed; "-" is standard output. ALREADY_EXISTS for
  // one that is there and not to be replaced; a directory never is.
  static absl::StatusOr<std::unique_ptr<ArchiveOutputPath>> Create(const std::string& file,
                                                                   Kind kind, Existing existing);
  // Removes what was not published.
  ~ArchiveOutputPath();
  ArchiveOutputPath(const ArchiveOutputPath&) = delete;
  ArchiveOutputPath& operator=(const ArchiveOutputPath&) = delete;

  // Where the daemon writes.
  const std::string& path() const { return temporary_; }

  // Gives the complete archive its name, or copies it to standard output.
  absl::Status Publish();

 private:
  ArchiveOutputPath(std::string target, Kind kind, Existing existing)
      : target_(std::move(target)), kind_(kind), existing_(existing) {}

  const std::string target_;  // Empty: standard output.
  const Kind kind_;
  const Existing existing_;
  std::string temporary_;  // Empty once published.
};

}  // namespace crispd
