// What the worker's processes take from themselves before they touch a foreign byte.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace imageservice::worker {

// The roles of the worker's processes.
enum class Role {
  kNetwork,   // Talks to registries: sockets of IP and threads; writes no file.
  kForker,    // Starts the processes of layers: forks; neither sockets nor threads.
  kVerifier,  // Hashes one layer: reads and writes what is open, kills its parser; no path at all.
  kParser,    // Unpacks one layer: file calls only.
  kArchiveReader,  // Reads an image archive: threads; no sockets, writes no file.
  kArchiveWriter,  // Reads layers, also what needs privilege, and writes an image archive.
};

// Sets no_new_privs, without which a process may not confine itself. First of all steps.
absl::Status ForgoNewPrivileges();

enum class Landlock { kEnforced, kMissing };

// Whom the process may signal, as far as Landlock is asked.
enum class Signals {
  kNobody,    // Nobody but itself and those it forks from now on.
  kChildren,  // Left to the list of system calls: children forked earlier are still within reach.
};

// Landlock: from now on files are opened, made and linked only beneath `writable` (open
// directories) and read only beneath `readable` (paths; missing ones are left out). Every call
// narrows further. kMissing when the kernel has none or only its first version, which cannot allow
// links across directories.
//
// It does not know of chmod, chown and their like: a role that may make these calls needs a root of
// its own.
absl::StatusOr<Landlock> ConfineFiles(const std::vector<std::string>& readable,
                                      const std::vector<int>& writable,
                                      Signals signals = Signals::kNobody);

// What name resolution and TLS need to read.
std::vector<std::string> NetworkFiles();

// Makes the open `directory` the process's root: no path leads out of it, and no descriptor, if
// none of a directory elsewhere is open. Needs CAP_SYS_CHROOT.
absl::Status EnterRoot(int directory);

// Keeps of the capabilities only what `role` needs: none for the network and verifiers.
absl::Status DropCapabilities(Role role);

// Limits the data memory of the process to `bytes` (not in builds with sanitizers, which need
// more).
absl::Status LimitMemory(uint64_t bytes);

// Installs the list of allowed system calls of `role`; all others fail with EPERM. Threads made
// later are under it too. A child of a forker inherits the forker's list and narrows it by its own.
// `child` is the process that a verifier may kill.
absl::Status FilterSystemCalls(Role role, pid_t child = 0);

}  // namespace imageservice::worker
