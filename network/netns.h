// Namespaces that outlive the daemon: each is pinned by a bind mount on a file named after its pod.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/id.h"
#include "base/idmap.h"

namespace network {

// Where plugins that run as daemons look for network namespaces.
inline constexpr char kDefaultNetnsDirectory[] = "/run/netns";

// The path at which the network namespace of `pod` is pinned: `directory`/crisp-<id>.
std::string NetnsPath(std::string_view directory, const base::PodId& pod);

// Makes `directory` and, unless the mount it lies on is shared already, makes it a shared mount, so
// that pins reach the mount namespaces of plugins. OK when that is done; safe against other
// processes doing the same.
absl::Status PrepareNetnsDirectory(const std::string& directory);

// One namespace to pin. `type` is "net", "ipc", "uts" or, for a setup with one, "user"; the parent
// directory of `path` is made.
struct NamespacePin {
  std::string type;
  std::string path;
};

// A user namespace that is to own the others of a setup.
struct NewUserNamespace {
  base::IdMap map;
  std::string holder;  // Path of crisp-init.
};

struct NamespaceSetup {
  std::vector<NamespacePin> pins;
  // Kernel parameters by name, as a pod gives them; each must belong to a namespace in `pins`.
  std::map<std::string, std::string> sysctls;
  // Set in the new uts namespace; empty leaves the host's name in it.
  std::string hostname;
  // Needs a pin of type "user". No thread of a process can make one (user_namespaces(7)): a child
  // makes it together with the rest, and is gone again when they are pinned.
  std::optional<NewUserNamespace> user = std::nullopt;
};

// Creates new namespaces, pins them, sets sysctls and host name and brings up `lo` in a new network
// namespace. All of it happens on a thread of its own that ends before this returns, so no other
// work ever runs in the new namespaces. A pin left over from a crash is replaced.
// Returns the inode of each namespace by type: it names the namespace until the next boot.
// Errors: INVALID_ARGUMENT for an unknown or repeated type, a sysctl that belongs to no namespace
// of the setup, a host name without a uts namespace; RESOURCE_EXHAUSTED when a limit below
// /proc/sys/user is reached; else the failed system call. Nothing is left then.
absl::StatusOr<std::map<std::string, uint64_t>> PinNamespaces(const NamespaceSetup& setup);

// Pins the namespace of `type` ("pid") that the running process `pid` is in, and returns its inode.
// NOT_FOUND when there is no such process.
absl::StatusOr<uint64_t> PinProcessNamespace(pid_t pid, const NamespacePin& pin);

// Detaches the pin and removes its file. OK if there is none.
absl::Status UnpinNamespace(const std::string& path);

// UnpinNamespace of NetnsPath.
absl::Status UnpinNetns(std::string_view directory, const base::PodId& pod);

// The inode of the namespace pinned at `path`; NOT_FOUND when nothing is there,
// FAILED_PRECONDITION when what is there is no namespace (a pin whose mount is gone).
absl::StatusOr<uint64_t> NamespaceInode(const std::string& path);

// The type of namespace ("net" or "ipc") that the kernel parameter `name` belongs to;
// INVALID_ARGUMENT when it is malformed or would change the host.
absl::StatusOr<std::string> SysctlNamespace(std::string_view name);

// The file of the kernel parameter `name`. When its first separator is "." then "." separates and
// "/" stands for a dot inside a name ("net.ipv4.conf.eth0/1.forwarding"), else the other way round,
// as sysctl(8) has it. INVALID_ARGUMENT when it would leave /proc/sys.
absl::StatusOr<std::string> SysctlPath(std::string_view name);

// Brings up `lo` in the network namespace of the calling thread.
absl::Status BringUpLoopback();

}  // namespace network
