// Attaching pods to the network and detaching them, through CNI plugins. Nothing is remembered here
// or written to disk: the caller keeps plan and result with the pod's record.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/launcher.h"
#include "base/mutex.h"
#include "network/cni_config.h"
#include "network/cni_plugin.h"
#include "network/cni_result.h"
#include "network/netns.h"
#include "network/network_plan.h"

namespace network {

struct NetworkConfig {
  std::string conf_dir = "/etc/cni/net.d";
  std::vector<std::string> plugin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
  std::string default_network;  // Empty: the first valid one by file name.
  std::string netns_dir = kDefaultNetnsDirectory;
  IpPreference ip_preference = IpPreference::kIpv4;
  // For all plugins of one attach or detach together.
  absl::Duration attach_timeout = absl::Seconds(60);
  absl::Duration detach_timeout = absl::Seconds(60);
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

  // Runs ADD of each plugin in order. After an error (a plugin's own is UNKNOWN, or UNAVAILABLE
  // when it asks to try later) DEL of those that ran has been tried; `cleanup`, if not null, then
  // tells how that went, and when it is not OK the caller owes a Detach without result.
  absl::StatusOr<Attachment> Attach(const base::Context& ctx, std::string_view plan,
                                    absl::Status* cleanup = nullptr);

  // Runs DEL of each plugin in reverse order and stops at the first error, so that an address is
  // not given to others while something still points to it. May be repeated until it succeeds;
  // `result` may be empty (never attached, or lost), and so may `netns_path` or the namespace at it
  // be gone.
  absl::Status Detach(const base::Context& ctx, std::string_view plan, std::string_view result,
                      const std::string& netns_path);

  // OK when a pod could be attached: a valid configuration, and every plugin it names is there.
  // Else FAILED_PRECONDITION with the reason, for the condition NetworkReady.
  absl::Status Ready();

  const NetworkConfig& config() const { return config_; }

 private:
  // Keeps other operations of the same container out while it lives.
  class Turn;
  absl::Status TakeTurn(const base::Context& ctx, const std::string& container_id);
  void EndTurn(const std::string& container_id);

  enum class OnError { kStop, kGoOn };
  // Runs DEL of the first `count` plugins in reverse order.
  absl::Status DeletePlugins(const base::Context& ctx, const NetworkPlan& plan, size_t count,
                             const base::Json& result, OnError on_error) const;
  struct Progress;
  absl::Status AddPlugins(const base::Context& ctx, const NetworkPlan& plan,
                          Progress* progress) const;

  const NetworkConfig config_;
  const CniPlugins plugins_;
  CniConfigDirectory directory_;

  base::Mutex mutex_;
  base::CondVar turn_ended_;
  std::set<std::string> busy_ ABSL_GUARDED_BY(mutex_);  // Container ids.
};

}  // namespace network
