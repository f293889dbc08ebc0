#include "imageservice/registries_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/files.h"
#include "base/log.h"
#include "base/strings.h"

namespace imageservice {
namespace {

// A file that changed this short a time ago may change again within the same tick of its clock.
constexpr absl::Duration kTick = absl::Seconds(1);

// What tells one state of files from another.
class Stamp {
 public:
  // `path` may be missing, and may be a directory, whose files then count.
  void Add(const std::string& path) {
    AddOne(path);
    const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(path);
    if (names.ok()) {
      for (const std::string& name : *names) {
        AddOne(base::StrCat(path, "/", name));
      }
    }
  }

  // Empty when the last change is so young that the next could look the same.
  std::string Text() const { return absl::Now() - newest_ < kTick ? "" : text_; }

 private:
  void AddOne(const std::string& path) {
    struct stat info = {};
    if (stat(path.c_str(), &info) != 0) {
      text_ += base::StrCat(path, " -\n");
      return;
    }
    const absl::Time changed = absl::TimeFromTimespec(info.st_ctim);
    newest_ = std::max(newest_, changed);
    text_ += base::StrCat(path, " ", info.st_dev, " ", info.st_ino, " ", info.st_size, " ",
                          absl::ToUnixNanos(absl::TimeFromTimespec(info.st_mtim)), " ",
                          absl::ToUnixNanos(changed), "\n");
  }

  std::string text_ = "files\n";
  absl::Time newest_ = absl::InfinitePast();
};

}  // namespace

absl::StatusOr<std::shared_ptr<const RegistriesConfig>> RegistriesSource::Current() {
  Stamp stamp;  // Taken before the files are read: what changes meanwhile is seen the next time.
  for (const std::string& path : files_.paths) {
    stamp.Add(path);
  }
  if (!files_.alias_cache.empty()) {
    stamp.Add(files_.alias_cache);
  }
  const std::string text = stamp.Text();
  {
    base::MutexLock lock(&mutex_);
    if (!text.empty() && text == stamp_) {
      if (!status_.ok()) {
        return status_;
      }
      return good_;
    }
  }
  absl::StatusOr<RegistriesConfig> loaded = RegistriesConfig::Load(files_);
  const absl::Status status = loaded.status();
  std::shared_ptr<const RegistriesConfig> shared;
  if (status.ok()) {
    for (const std::string& warning : loaded->warnings()) {
      base::LogWarning(warning, ": ignored");
    }
    shared = std::make_shared<const RegistriesConfig>(*std::move(loaded));
  }
  base::MutexLock lock(&mutex_);
  stamp_ = text;
  status_ = status;
  if (shared == nullptr) {
    return status;
  }
  good_ = shared;
  return shared;
}

std::shared_ptr<const RegistriesConfig> RegistriesSource::LastGood() const {
  base::MutexLock lock(&mutex_);
  return good_;
}

}  // namespace imageservice
