// The files of configuration folders, and whether they changed since somebody looked.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace base {

// A regular file (or a symlink to one) directly in a folder.
struct FolderFile {
  size_t folder = 0;  // The folder's place in the list that was asked for.
  std::string name;
  std::string path;
};

// What stat(2) says of folders and of their files.
struct FolderFiles {
  std::vector<FolderFile> files;  // By folder, then by name; at most 1024 of each folder.
  std::string state;              // Changes with the content of each folder and file.
  absl::Time newest_change = absl::InfinitePast();

  // Whether a later look with the same `state` means that nothing changed since `now`, which lies
  // before the files are read: a file that changed just before it was read may change again within
  // the same time stamp.
  bool Settled(absl::Time now) const;
};

// Looks at each file whose name ends in one of `extensions` (".json"). A folder that is not there
// or cannot be read has no files. Does not read them.
FolderFiles LookAtFolders(std::span<const std::string> folders,
                          std::span<const std::string_view> extensions);

// Why files were left out, by path.
using FolderProblems = std::map<std::string, std::string>;

// Logs those of `now` that `before` does not have alike: a bad file is logged once, however often
// its folder is read.
void LogNewProblems(const FolderProblems& before, const FolderProblems& now);

// What the files of some folders say, as a T: looked at again at each use and read again when
// something changed, so a change takes effect at once. Nothing is read before the first use.
// Thread-safe.
template <typename T>
class FolderCache {
 public:
  // Reads `files`; leaves out bad ones and says why.
  using Load = std::function<T(const FolderFiles& files, FolderProblems* problems)>;

  FolderCache(std::vector<std::string> folders, std::vector<std::string_view> extensions, Load load)
      : folders_(std::move(folders)), extensions_(std::move(extensions)), load_(std::move(load)) {}

  const std::vector<std::string>& folders() const { return folders_; }

  std::shared_ptr<const T> Get() {
    FolderFiles files = LookAtFolders(folders_, extensions_);
    {
      MutexLock lock(&mutex_);
      if (value_ != nullptr && state_.has_value() && *state_ == files.state) {
        return value_;
      }
    }
    const absl::Time now = absl::Now();
    FolderProblems problems;
    auto value = std::make_shared<const T>(load_(files, &problems));
    MutexLock lock(&mutex_);
    LogNewProblems(problems_, problems);
    problems_ = std::move(problems);
    state_ = files.Settled(now) ? std::optional(std::move(files.state)) : std::nullopt;
    value_ = value;
    return value;
  }

 private:
  const std::vector<std::string> folders_;
  const std::vector<std::string_view> extensions_;
  const Load load_;

  Mutex mutex_;
  std::optional<std::string> state_ ABSL_GUARDED_BY(mutex_);  // Absent: not to be kept.
  std::shared_ptr<const T> value_ ABSL_GUARDED_BY(mutex_);
  FolderProblems problems_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace base
