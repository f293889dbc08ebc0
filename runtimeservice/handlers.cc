#include "runtimeservice/handlers.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {

bool Handlers::Stamp::operator==(const Stamp& other) const {
  return device == other.device && inode == other.inode && bytes == other.bytes &&
         changed.tv_sec == other.changed.tv_sec && changed.tv_nsec == other.changed.tv_nsec;
}

absl::StatusOr<Handlers::Stamp> Handlers::StampOf(const std::string& program) {
  struct stat status = {};
  if (access(program.c_str(), X_OK) != 0 || stat(program.c_str(), &status) != 0) {
    return absl::FailedPreconditionError(base::ErrnoStatus(errno, program).message());
  }
  return Stamp{.device = status.st_dev,
               .inode = status.st_ino,
               .bytes = status.st_size,
               .changed = status.st_ctim};
}

std::unique_ptr<const Handler> Handlers::Make(const std::string& name, const HandlerConfig& config,
                                              HandlerTraits traits) const {
  // The option is mount_setattr(2)'s.
  traits.recursive_read_only = traits.recursive_read_only && host_.kernel >= KernelVersion{5, 12};
  return std::make_unique<const Handler>(Handler{.name = name,
                                                 .runtime = Runtime(config.runtime, launcher_),
                                                 .traits = std::move(traits),
                                                 .create_timeout = config.create_timeout,
                                                 .monitor_cgroup = config.monitor_cgroup,
                                                 .monitor_env = config.monitor_env});
}

Handlers::Handlers(const std::map<std::string, HandlerConfig>& configs,
                   const base::Launcher& launcher, const HostFacts& host)
    : launcher_(launcher), host_(host) {
  for (const auto& [name, config] : configs) {
    {
      base::MutexLock lock(&mutex_);
      Entry& entry = entries_[name];
      entry.config = config;
      entry.versions.push_back(Make(name, config, config.traits));
    }
    if (const absl::StatusOr<Stamp> stamp = StampOf(config.runtime.path); stamp.ok()) {
      Refresh(name, *stamp);
    }
  }
}

absl::StatusOr<const Handler*> Handlers::Find(const std::string& name) {
  const Handler* known = nullptr;
  Stamp seen;
  {
    base::MutexLock lock(&mutex_);
    const auto found = entries_.find(name);
    if (found == entries_.end()) {
      return absl::InvalidArgumentError(
          base::StrCat("runtime_handler: there is no handler \"", name, "\""));
    }
    known = found->second.versions.back().get();
    seen = found->second.stamp;
  }
  const absl::StatusOr<Stamp> stamp = StampOf(known->runtime.config().path);
  if (!stamp.ok()) {
    return base::Annotate(stamp.status(), base::StrCat("runtime_handler \"", name, "\""));
  }
  if (!(*stamp == seen)) {
    Refresh(name, *stamp);
  }
  return &at(name);
}

void Handlers::Refresh(const std::string& name, const Stamp& stamp) {
  const base::MutexLock refreshing(&refreshing_);
  HandlerConfig config;
  {
    base::MutexLock lock(&mutex_);
    const Entry& entry = entries_.at(name);
    if (entry.stamp == stamp) {
      return;
    }
    config = entry.config;
  }
  const HandlerTraits traits = config.probe ? config.probe(config.traits) : config.traits;
  base::MutexLock lock(&mutex_);
  Entry& entry = entries_.at(name);
  entry.stamp = stamp;
  entry.versions.push_back(Make(name, config, traits));
}

const Handler& Handlers::at(const std::string& name) const {
  base::MutexLock lock(&mutex_);
  return *entries_.at(name).versions.back();
}

std::vector<const Handler*> Handlers::All() const {
  std::vector<const Handler*> all;
  base::MutexLock lock(&mutex_);
  for (const auto& [name, entry] : entries_) {
    all.push_back(entry.versions.back().get());
  }
  return all;
}

}  // namespace runtimeservice
