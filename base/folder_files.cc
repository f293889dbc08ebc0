#include "base/folder_files.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/files.h"
#include "base/log.h"
#include "base/strings.h"

namespace base {
namespace {

constexpr size_t kMaxFiles = 1024;
constexpr absl::Duration kTimestampDoubt = absl::Seconds(1);

void Add(const std::string& path, const struct stat& facts, FolderFiles* found) {
  const absl::Time modified = absl::TimeFromTimespec(facts.st_mtim);
  const absl::Time changed = absl::TimeFromTimespec(facts.st_ctim);
  found->state += StrCat(path, "\n", facts.st_dev, " ", facts.st_ino, " ", facts.st_size, " ",
                         absl::ToUnixNanos(modified), " ", absl::ToUnixNanos(changed), "\n");
  found->newest_change = std::max({found->newest_change, modified, changed});
}

}  // namespace

bool FolderFiles::Settled(absl::Time now) const { return newest_change < now - kTimestampDoubt; }

FolderFiles LookAtFolders(std::span<const std::string> folders,
                          std::span<const std::string_view> extensions) {
  FolderFiles found;
  for (size_t folder = 0; folder < folders.size(); ++folder) {
    struct stat facts = {};
    if (stat(folders[folder].c_str(), &facts) != 0) {
      continue;
    }
    Add(folders[folder], facts, &found);
    const absl::StatusOr<std::vector<std::string>> names = ListDirectory(folders[folder]);
    size_t count = 0;
    for (size_t i = 0; names.ok() && i < names->size() && count < kMaxFiles; ++i) {
      const std::string& name = (*names)[i];
      std::string path = StrCat(folders[folder], "/", name);
      const bool wanted =
          std::any_of(extensions.begin(), extensions.end(),
                      [&](std::string_view extension) { return name.ends_with(extension); });
      if (wanted && stat(path.c_str(), &facts) == 0 && S_ISREG(facts.st_mode)) {
        Add(path, facts, &found);
        found.files.push_back({folder, name, std::move(path)});
        ++count;
      }
    }
  }
  return found;
}

void LogNewProblems(const FolderProblems& before, const FolderProblems& now) {
  for (const auto& [path, why] : now) {
    const auto known = before.find(path);
    if (known == before.end() || known->second != why) {
      LogWarning("left out ", path, ": ", why);
    }
  }
}

}  // namespace base
