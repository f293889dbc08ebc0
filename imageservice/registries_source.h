// The registries.conf of now: read again when one of its files has changed.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "imageservice/registries_config.h"

namespace imageservice {

// Thread-safe; files are read by the thread that finds them changed, under no lock.
class RegistriesSource {
 public:
  // Reads nothing yet.
  explicit RegistriesSource(RegistriesConfig::Files files) : files_(std::move(files)) {}

  // What the files say now. They are looked at each time (inode, size and times, also of what is in
  // the directories) and read when something changed. While one of them makes no sense, its error.
  absl::StatusOr<std::shared_ptr<const RegistriesConfig>> Current();

  // The last that made sense, without looking at files; an empty configuration before the first.
  std::shared_ptr<const RegistriesConfig> LastGood() const;

 private:
  const RegistriesConfig::Files files_;

  mutable base::Mutex mutex_;
  // What the files looked like when `status_` came of them; empty: not to be relied on.
  std::string stamp_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const RegistriesConfig> good_ ABSL_GUARDED_BY(mutex_) =
      std::make_shared<RegistriesConfig>();
};

}  // namespace imageservice
