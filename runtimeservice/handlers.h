// The runtime handlers that pods may ask for: their programs, what these can do, and how each is
// used.
#pragma once

#include <sys/stat.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/launcher.h"
#include "base/mutex.h"
#include "runtimeservice/oci/runtime.h"
#include "runtimeservice/spec/spec.h"

namespace runtimeservice {

// One [crisp.runtime.runtimes.NAME].
struct HandlerConfig {
  RuntimeConfig runtime;
  HandlerTraits traits;                               // As configured.
  absl::Duration create_timeout = absl::Seconds(60);  // Of the runtime's `create`.
  std::string monitor_cgroup;                         // Empty: the service's.
  std::vector<std::string> monitor_env;               // "NAME=value".
  // Adds to the configured traits what the program says of itself, by running it. Null: nothing.
  std::function<HandlerTraits(HandlerTraits)> probe;
};

// A handler as its program was when it was last looked at. Immutable.
struct Handler {
  std::string name;
  Runtime runtime;
  HandlerTraits traits;
  absl::Duration create_timeout;
  std::string monitor_cgroup;
  std::vector<std::string> monitor_env;
};

// All handlers. Thread-safe. A program that appears, or is replaced by an upgrade, is asked again
// before its next use. Every Handler lives as long as this object, the outdated ones too: there are
// as many as there were upgrades.
class Handlers {
 public:
  // Asks the programs that are there. `launcher` and `host` must outlive this object.
  Handlers(const std::map<std::string, HandlerConfig>& configs, const base::Launcher& launcher,
           const HostFacts& host);

  // The handler of that name, for something new. INVALID_ARGUMENT for an unknown name,
  // FAILED_PRECONDITION when its program cannot be executed; both name the field. May run the
  // program.
  absl::StatusOr<const Handler*> Find(const std::string& name);

  // As last looked at; the name must be known. Runs nothing.
  const Handler& at(const std::string& name) const;
  // All of them by name, as last looked at. Runs nothing.
  std::vector<const Handler*> All() const;

 private:
  // Tells one program file from another: a replaced or changed one differs somewhere.
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t bytes = -1;
    struct timespec changed = {};
    bool operator==(const Stamp& other) const;
  };
  struct Entry {
    HandlerConfig config;
    Stamp stamp;
    std::vector<std::unique_ptr<const Handler>> versions;  // The newest last.
  };
  static absl::StatusOr<Stamp> StampOf(const std::string& program);
  std::unique_ptr<const Handler> Make(const std::string& name, const HandlerConfig& config,
                                      HandlerTraits traits) const;
  // Asks the program behind `stamp`, unless another thread has done it meanwhile.
  void Refresh(const std::string& name, const Stamp& stamp);

  const base::Launcher& launcher_;
  const HostFacts& host_;
  base::Mutex refreshing_;  // Held while a program runs. Taken before mutex_.
  mutable base::Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace runtimeservice
