// What the worker's processes take from themselves before they touch a foreign byte.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageservice::worker {

// The roles of the worker's processes, from most to least that they may do.
enum class Role {
  kNetwork,  // Talks to registries: sockets of IP and threads; writes no file.
  kForker,   // Starts parsers: forks; neither sockets nor threads.
  kParser,   // Unpacks one layer: file calls only.
};

// Sets no_new_privs, without which a process may not confine itself. First of all steps.
absl::Status ForgoNewPrivileges();

enum class Landlock { kEnforced, kMissing };

// Landlock: from now on files are opened, made and linked only beneath `writable` (open
// directories) and read only beneath `readable` (paths; missing ones are left out). Every call
// narrows further. kMissing when the kernel has none or only its first version, which cannot allow
// links across directories.
absl::StatusOr<Landlock> ConfineFiles(const std::vector<std::string>& readable,
                                      const std::vector<int>& writable);

// What name resolution and TLS need to read.
std::vector<std::string> NetworkFiles();

// Keeps of the capabilities only what `role` needs: none for the network.
absl::Status DropCapabilities(Role role);

// Installs the list of allowed system calls of `role`; all others fail with EPERM. Threads made
// later are under it too. A child of a forker inherits the forker's list and narrows it by its own.
absl::Status FilterSystemCalls(Role role);

}  // namespace imageservice::worker
