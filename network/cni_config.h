// CNI network configurations: the directory of files that say which plugins wire a pod (CNI 1.1.0,
// section 1).
#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/json.h"
#include "base/mutex.h"

namespace network {

// One plugin of a network.
struct CniPluginConfig {
  std::string type;                    // The name of its binary: a plain file name.
  std::set<std::string> capabilities;  // The runtime arguments it asks for.
  base::Json config;                   // The object as it stands in the file.
};

// One network: plugins that run in this order for ADD.
struct CniNetwork {
  std::string name;
  std::string cni_version;  // The highest that file and we both know.
  std::vector<CniPluginConfig> plugins;
};

// A configuration list (.conflist) with its plugins in it. INVALID_ARGUMENT with the reason for
// anything that is not a valid list of a version from 0.3.0 to 1.1.0.
absl::StatusOr<CniNetwork> ParseCniList(std::string_view text);
absl::StatusOr<CniNetwork> ParseCniListObject(const base::Json& object);

// The configuration of a single plugin (.conf, .json) as a network of one.
absl::StatusOr<CniNetwork> ParseCniSinglePlugin(std::string_view text);

// The reverse of ParseCniList: a list that parses to the same network.
base::Json CniListJson(const CniNetwork& network);

// OK if `type` is a plain file name, so that it cannot lead out of the plugins' folders.
absl::Status CheckPluginType(std::string_view type);

// A directory of configuration files, watched by looking: every use stats the files and reads them
// again when something changed, so a change takes effect at once. Thread-safe.
class CniConfigDirectory {
 public:
  // `default_network` names the network to use; empty: the first, by file name, that is valid.
  CniConfigDirectory(std::string directory, std::string default_network);

  // The network that pods get now. FAILED_PRECONDITION with a readable reason when there is none.
  absl::StatusOr<std::shared_ptr<const CniNetwork>> Network();

 private:
  // Everything stat(2) tells that changes with the content of the files.
  struct Snapshot {
    std::string text;
    absl::Time newest_change;
  };
  Snapshot TakeSnapshot() const;
  absl::StatusOr<std::shared_ptr<const CniNetwork>> Load() const;

  const std::string directory_;
  const std::string default_network_;

  base::Mutex mutex_;
  std::string snapshot_ ABSL_GUARDED_BY(mutex_);  // Empty: nothing read that may be kept.
  absl::StatusOr<std::shared_ptr<const CniNetwork>> network_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace network
