// Control groups as directories: the same path in every hierarchy of v1, the one tree of v2.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"

namespace base {

enum class CgroupMode { kV1, kV2 };  // A hybrid host counts as v1.

// What is mounted below /sys/fs/cgroup, read once per process. Thread-safe.
CgroupMode HostCgroupMode();

// The directories of cgroup `path` ("/a/b"): one on v2; on v1 one per controller hierarchy (each
// distinct mount once), "name=systemd" and, on a hybrid host, the unified tree included.
std::vector<std::string> CgroupDirectories(std::string_view path);

// The directory of `path` in the hierarchy of `controller` ("memory", "pids", …; on v2 any name);
// empty when the controller is not mounted.
std::string CgroupDirectory(std::string_view controller, std::string_view path);

// Makes `path` with its parents in every hierarchy; on v2 enables the parents' controllers for
// their children, but for slices of systemd; on v1 copies cpuset.cpus and cpuset.mems down from the
// parents. OK if it is there.
absl::Status MakeCgroup(std::string_view path);

// Moves process `pid` (0: the caller) into `path` in every hierarchy.
absl::Status JoinCgroup(std::string_view path, pid_t pid);

// The processes in `path` and everything below it, from every hierarchy, without repeats.
std::vector<pid_t> CgroupProcesses(std::string_view path);

// SIGKILLs everything in `path` and below until nothing is left or the context ends: by cgroup.kill
// where the kernel has it, else one by one, on v1 with the freezer against processes that fork
// faster. Never the calling process. One that is kept is not killed by cgroup.kill: Linux 6.12 then
// kills what its later processes start in another cgroup (CLONE_INTO_CGROUP), such as crun's execs.
enum class CgroupFate { kRemoved, kKept };
absl::Status KillCgroup(const Context& ctx, std::string_view path,
                        CgroupFate fate = CgroupFate::kRemoved);

// Removes `path` and what is below it, in every hierarchy; waits for processes that are on their
// way out until the context ends. OK if there is nothing; an error when processes are left in it.
absl::Status RemoveCgroup(const Context& ctx, std::string_view path);
// The same, waiting for some moments.
absl::Status RemoveCgroup(std::string_view path);

}  // namespace base
