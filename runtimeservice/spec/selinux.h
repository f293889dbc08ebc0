// SELinux labels of pods and containers: which process label and which label of files.
//
// What follows whom: the four parts of a label and the form of levels are SELinux's (the kernel's
// mls_context_to_sid); the defaults come from the policy's lxc_contexts file, as libselinux's
// selinux_lxc_contexts_path(3) finds it; that user and level of a request hold for the files, too,
// and its role and type do not, is CRI-O's and containerd's rule. libselinux itself is not needed.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "proto/cri.h"

namespace runtimeservice {

// "user:role:type:level".
struct SelinuxLabel {
  std::string user;
  std::string role;
  std::string type;
  std::string level;
  std::string Text() const { return user + ":" + role + ":" + type + ":" + level; }
};

// INVALID_ARGUMENT for anything but four parts of the right form. Pure.
absl::StatusOr<SelinuxLabel> ParseSelinuxLabel(std::string_view text);

// INVALID_ARGUMENT, naming the field, for a part that no policy could have. Pure.
absl::Status CheckSelinuxOptions(const cri::SELinuxOption& options);

// A policy's labels for containers.
struct SelinuxContexts {
  SelinuxLabel process = {"system_u", "system_r", "container_t", "s0"};
  SelinuxLabel file = {"system_u", "object_r", "container_file_t", "s0"};
};

// Those of an lxc_contexts file (lines such as `process = "LABEL"`); the built-in ones for what it
// lacks. Pure.
SelinuxContexts ParseLxcContexts(std::string_view text);

// What is given to something; an empty one: none of its own.
struct SelinuxLabels {
  std::string process;
  std::string mount;  // Of its files.
};

// The node's SELinux. Tests make their own.
struct SelinuxHost {
  bool enabled = false;
  SelinuxContexts contexts;
  // Whether the policy knows a label: OK, INVALID_ARGUMENT, or why it could not be asked.
  std::function<absl::Status(const std::string& label)> check;
};

// As this machine has it. `wanted`: the configuration does not turn it off.
SelinuxHost GatherSelinuxHost(bool wanted);

// Thread-safe. Without SELinux every label is empty, but nonsense is refused all the same.
class Selinux {
 public:
  // `hostnetwork_disable`: processes of pods on the host's network get no label.
  Selinux(SelinuxHost host, bool hostnetwork_disable);

  bool enabled() const { return host_.enabled; }

  // The labels of a new pod. Without a level in its options it gets a pair of categories that no
  // other pod has, until Release(pod). Pods that share the host's PIDs or IPC are not separated:
  // they get none. INVALID_ARGUMENT, naming the field, for options that make no valid label.
  absl::StatusOr<SelinuxLabels> ForPod(const std::string& pod,
                                       const cri::LinuxSandboxSecurityContext& security);
  // The labels of a container in a pod with `labels`: the pod's, with what its own options change.
  // Privileged ones are of type spc_t unless they name one. Errors as above.
  absl::StatusOr<SelinuxLabels> ForContainer(
      const SelinuxLabels& labels, const cri::LinuxContainerSecurityContext& security) const;

  // Marks the level of a known pod as taken; what is no label is passed over.
  void Reserve(const std::string& pod, const SelinuxLabels& labels);
  void Release(const std::string& pod);

 private:
  absl::StatusOr<std::string> FreshLevel(const std::string& pod);
  absl::Status Check(const SelinuxLabels& labels) const;

  const SelinuxHost host_;
  const bool hostnetwork_disable_;
  base::Mutex mutex_;
  std::map<std::string, std::string> levels_ ABSL_GUARDED_BY(mutex_);  // By pod.
};

}  // namespace runtimeservice
