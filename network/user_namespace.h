// User namespaces that own the other namespaces of a pod.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/idmap.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "network/netns.h"

namespace network {

// A child (`crisp-init hold`) in namespaces of its own, which are owned by its user namespace. It
// ends with this object, and should the daemon be killed, with that.
class NamespaceHolder {
 public:
  // `types` are those of NamespacePin, "user" among them. The maps are written when this returns.
  // RESOURCE_EXHAUSTED when a limit below /proc/sys/user is reached, FAILED_PRECONDITION when the
  // kernel has or takes no such namespace or maps.
  static absl::StatusOr<NamespaceHolder> Start(const NewUserNamespace& user,
                                               const std::vector<std::string>& types);

  pid_t pid() const { return child_.pid(); }

 private:
  NamespaceHolder(base::Subprocess child, base::UniqueFd input)
      : child_(std::move(child)), input_(std::move(input)) {}

  base::Subprocess child_;
  base::UniqueFd input_;  // Its end is the child's end.
};

// What a failed unshare(2) of namespaces means: ENOSPC and EUSERS are limits below /proc/sys/user.
absl::Status NamespaceError(int error);

// The value to write from outside into the kernel parameter at `path` of a network namespace that
// `map`'s user namespace owns, so that it means what `value` says inside. That is another one for
// net.ipv4.ping_group_range alone: the kernel reads its groups as the writer's. A group beyond the
// map becomes the last that is mapped.
std::string OutsideSysctl(std::string_view path, const std::string& value, const base::IdMap& map);

// Writes a kernel parameter of namespaces that `map`'s user namespace owns and that the calling
// thread is in, as OutsideSysctl has it. For the time of a write that is refused to the host's root
// the thread has the namespace's root as its effective user.
absl::Status WriteOwnedSysctl(const std::string& path, const std::string& value,
                              const base::IdMap& map);

}  // namespace network
