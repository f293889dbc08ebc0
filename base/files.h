// Files: whole reads with a limit, atomic replacement, and paths that cannot leave their root.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace base {

// What a write survives.
enum class Durability {
  kVolatile,  // A crash of ours; power loss may leave a file without its content.
  // Power loss at least as well as whatever is made later in the same file system, as far as that
  // writes its metadata in order, as ext4, XFS and btrfs do. Waits for the data, not for the
  // journal.
  kOrdered,
  kDurable,  // Power loss, from now on.
};

// All functions return ErrnoStatus with the path in the message; descriptors are close-on-exec.

absl::StatusOr<UniqueFd> Open(const std::string& path, int flags, mode_t mode = 0600);
absl::StatusOr<UniqueFd> OpenAt(int directory, const std::string& path, int flags,
                                mode_t mode = 0600);

// Opens `path` beneath `directory` by openat2(2): no component, symlink or ".." leads out of it.
// `resolve` adds RESOLVE_* flags to RESOLVE_BENEATH; pass RESOLVE_IN_ROOT to resolve symlinks as a
// process chrooted into `directory` would (then BENEATH is left out).
absl::StatusOr<UniqueFd> OpenBeneath(int directory, const std::string& path, int flags,
                                     mode_t mode = 0600, uint64_t resolve = 0);

// The whole content; RESOURCE_EXHAUSTED when it is longer than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes = 16 << 20);
absl::StatusOr<std::string> ReadFd(int fd, std::string_view name, size_t max_bytes = 16 << 20);

// Writes all of `data` to `fd`, however many calls it takes.
absl::Status WriteAll(int fd, std::string_view data, std::string_view name);

// Writes to an existing file in one write(2), as cgroup and /proc files want it.
absl::Status WriteControlFile(const std::string& path, std::string_view data);

// Replaces `path` by temp file and rename: readers see the old or the new content, whole.
absl::Status ReplaceFile(const std::string& path, std::string_view data, mode_t mode,
                         Durability durability);

// fsync of a directory, so that renames and unlinks in it survive power loss.
absl::Status SyncDirectory(const std::string& path);

// Makes `path` and its missing parents, all with `mode` less the umask. OK if it is there.
absl::Status MakeDirectories(const std::string& path, mode_t mode = 0755);

// Removes a tree, not following symlinks and not crossing mounts (a mount in it is an error and
// stays untouched). OK if there is nothing.
absl::Status RemoveTree(const std::string& path);

// unlink(2); OK if there is nothing.
absl::Status RemoveFile(const std::string& path);

// The names in a directory, sorted, without "." and "..".
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);

// Whether something (a dangling symlink too) stands at `path`.
bool Exists(const std::string& path);

}  // namespace base
