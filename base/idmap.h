// Ids of a user namespace, and mounts that show a directory's files under those ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace base {

// `length` ids: `inside + i` in the user namespace, and on disk below an id-mapped mount, is
// `outside + i` for the host.
struct IdRange {
  uint32_t inside = 0;
  uint32_t outside = 0;
  uint32_t length = 0;
  friend bool operator==(const IdRange&, const IdRange&) = default;

  bool Holds(uint32_t id) const { return id >= inside && id - inside < length; }
  // What the host calls `id`; nothing when it is not mapped.
  std::optional<uint32_t> Outside(uint32_t id) const {
    return Holds(id) ? std::optional<uint32_t>(outside + (id - inside)) : std::nullopt;
  }
};

// The maps of a user namespace with one range each.
struct IdMap {
  IdRange uids;
  IdRange gids;
  friend bool operator==(const IdMap&, const IdMap&) = default;
};

// A line of /proc/PID/uid_map (user_namespaces(7)).
std::string IdMapLine(const IdRange& range);

// A user namespace that is pinned at `path`.
struct UserNamespace {
  std::string path;
  IdMap map;
};

// Whether a copy of a mount has copies of the mounts below it.
enum class Submounts { kWith, kWithout };

// A copy, mounted nowhere yet, of the mount at the directory or file `source`, whose files have the
// ids that the user namespace `userns` (a descriptor) gives them; those of mounts below keep
// theirs. The copy passes propagation on as the original does. FAILED_PRECONDITION, naming the file
// system, when that cannot be id-mapped.
absl::StatusOr<UniqueFd> CloneIdmapped(const std::string& source, int userns, Submounts submounts);

// A copy of the mount at `source` with all mounts below it, all of them read-only.
absl::StatusOr<UniqueFd> CloneReadOnly(const std::string& source);

// Mounts such a copy on `target`, which exists and is a directory or a file as the source is.
absl::Status AttachMount(const UniqueFd& mount, const std::string& target);

// CloneIdmapped and AttachMount; `user` is opened by its path.
absl::Status BindIdmapped(const std::string& source, const UserNamespace& user,
                          const std::string& target, Submounts submounts);

}  // namespace base
