// Attaching pods to the network and detaching them, through CNI plugins. Nothing is remembered here
// or written to disk: the caller keeps plan and result with the pod's record.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/launcher.h"
#include "network/cni_config.h"
#include "network/cni_plugin.h"
#include "network/cni_result.h"
#include "network/netns.h"
#include "network/network_gc.h"
#include "network/network_plan.h"
#include "network/plugin_status.h"
#include "network/turns.h"

namespace network {

struct NetworkConfig {
  std::string conf_dir = "/etc/cni/net.d";
  std::vector<std::string> plugin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
  std::string default_network;                   // Empty: the first valid one by file name.
  std::vector<std::string> additional_networks;  // Names of those that give pods eth1, eth2, …
  std::string netns_dir = kDefaultNetnsDirectory;
  IpPreference ip_preference = IpPreference::kIpv4;
  // For all plugins of one attach or detach together.
  absl::Duration attach_timeout = absl::Seconds(60);
  absl::Duration detach_timeout = absl::Seconds(60);
  absl::Duration gc_timeout = absl::Seconds(30);  // For all plugins of one garbage collection.
  Turns::Limits limits;
  PluginStatus::Timing status_timing;
};

// An attached pod.
struct Attachment {
  std::string result;            // To be stored, and given to Detach.
  std::vector<std::string> ips;  // Never empty; the primary first.
};

// Thread-safe. Operations of one pod wait for each other, those of different pods run in parallel.
class PodNetwork {
 public:
  // `launcher` must outlive it.
  PodNetwork(NetworkConfig config, const base::Launcher& launcher);

  // The plan to attach `pod` with the present configuration. The caller stores it durably before it
  // calls Attach, so that a crash leaves enough to detach. FAILED_PRECONDITION when there is no
  // network configuration, INVALID_ARGUMENT when the pod's own data are wrong.
  absl::StatusOr<std::string> Prepare(const PodAttachment& pod);

  // Runs ADD of each plugin in order, network by network. After an error (a plugin's own is
  // UNKNOWN, or UNAVAILABLE when it asks to try later or plugins hang) DEL of all that ran has been
  // tried, of the networks that were attached too; `cleanup`, if not null, then tells how that
  // went, and when it is not OK the caller owes a Detach without result. The addresses are those of
  // the first network.
  absl::StatusOr<Attachment> Attach(const base::Context& ctx, std::string_view plan,
                                    absl::Status* cleanup = nullptr);

  // Runs DEL of each plugin in reverse order, network by network from the last, and stops at the
  // first error of a network, so that an address is not given to others while something still
  // points to it; the other networks are detached all the same. May be repeated until it succeeds;
  // `result` may be empty (never attached, or lost), and so may `netns_path` or the namespace at it
  // be gone. UNAVAILABLE when plugins hang.
  absl::Status Detach(const base::Context& ctx, std::string_view plan, std::string_view result,
                      const std::string& netns_path);

  // OK when a pod could be attached: a valid configuration, every plugin it names is there, and
  // none said otherwise when it was last asked (STATUS; in the background). Else
  // FAILED_PRECONDITION with the reason, for the condition NetworkReady. `complaint`, if not null,
  // gets what is wrong with files that are not needed.
  absl::Status Ready(std::string* complaint = nullptr);

  // Runs GC of the plugins that know it, for the present networks and for those of `plans` (of
  // attachments that should be gone). Waits until no ADD or DEL runs and holds new ones off;
  // `valid` is called then, and its error ends it. FAILED_PRECONDITION without a configuration.
  // Returns the names of the networks that are clean now.
  absl::StatusOr<std::set<std::string>> CollectGarbage(
      const base::Context& ctx, const std::vector<std::string>& plans,
      const std::function<absl::StatusOr<std::vector<ValidAttachment>>()>& valid);

  const NetworkConfig& config() const { return config_; }

 private:
  enum class OnError { kStop, kGoOn };
  // Runs DEL of the first `count` plugins in reverse order.
  absl::Status DeletePlugins(const base::Context& ctx, const NetworkPlan& plan, size_t count,
                             const base::Json& result, OnError on_error) const;
  // How far a chain of ADDs came.
  struct Progress {
    size_t started = 0;  // Plugins that may have left something.
    base::Json result;   // Of the last that succeeded; null before.
  };
  absl::Status AddPlugins(const base::Context& ctx, const NetworkPlan& plan,
                          Progress* progress) const;
  // The addresses that the first network gave; an error when it gave none.
  absl::StatusOr<std::vector<std::string>> AddressesOf(const NetworkPlan& plan,
                                                       const base::Json& result) const;
  // Undoes what an attach has done of each plan, the last first.
  absl::Status UndoAttach(const std::vector<NetworkPlan>& plans,
                          const std::vector<Progress>& progress) const;

  const NetworkConfig config_;
  const CniPlugins plugins_;
  CniConfigDirectory directory_;
  Turns turns_;
  PluginStatus status_;
};

// The attachments that a stored plan makes; INVALID_ARGUMENT when it does not parse.
absl::StatusOr<std::vector<ValidAttachment>> AttachmentsOf(std::string_view plan);

// Whether the plan parses and `names` has every network of it.
bool AllNetworksIn(std::string_view plan, const std::set<std::string>& names);

}  // namespace network
