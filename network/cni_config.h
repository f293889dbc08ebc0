// CNI network configurations: the directory of files that say which plugins wire a pod (CNI 1.1.0,
// section 1).
#pragma once

#include <map>
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
  // Other software uses the network, too: what we do not know may not be collected.
  bool disable_gc = false;

  // Whether plugins of this network know STATUS and GC.
  bool HasStatusAndGc() const { return cni_version == "1.1.0"; }
};

// What pods are attached to.
struct CniNetworks {
  std::vector<std::shared_ptr<const CniNetwork>> networks;  // Never empty; the default one first.
  std::string complaint;  // The files that are passed over because they are broken; mostly empty.
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
// again when something changed, so a change takes effect at once. A file that becomes invalid is no
// change: what it said before holds until it is valid again or gone, so that a file that is just
// being written does not send pods to another network. Thread-safe.
class CniConfigDirectory {
 public:
  // `default_network` names the network to use; empty: the first, by file name, that is valid.
  // `additional` names further networks.
  CniConfigDirectory(std::string directory, std::string default_network,
                     std::vector<std::string> additional = {});

  // The networks that pods get now: the default one, then the additional ones in their order.
  // FAILED_PRECONDITION with a readable reason when one of them is missing.
  absl::StatusOr<std::shared_ptr<const CniNetworks>> Networks();

 private:
  // Everything stat(2) tells that changes with the content of the files.
  struct Snapshot {
    std::string text;
    absl::Time newest_change;
  };
  using Files = std::map<std::string, std::shared_ptr<const CniNetwork>>;  // By file name.
  Snapshot TakeSnapshot() const;
  // Reads the files in order until everything is found. `good` has what they said before and gets
  // what they say now.
  absl::StatusOr<std::shared_ptr<const CniNetworks>> Load(Files* good) const;

  const std::string directory_;
  const std::string default_network_;
  const std::vector<std::string> additional_;

  base::Mutex mutex_;
  std::string snapshot_ ABSL_GUARDED_BY(mutex_);  // Empty: nothing read that may be kept.
  absl::StatusOr<std::shared_ptr<const CniNetworks>> networks_ ABSL_GUARDED_BY(mutex_);
  Files good_ ABSL_GUARDED_BY(mutex_);
  std::string complaint_ ABSL_GUARDED_BY(mutex_);  // The last that was logged.
};

}  // namespace network
