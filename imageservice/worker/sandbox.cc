#include "imageservice/worker/sandbox.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"

namespace imageservice::worker {
namespace {

// Debian 12's headers end at the second version of Landlock.
constexpr uint64_t kAccessTruncate = 1ULL << 14;          // Version 3.
constexpr uint64_t kAccessNetBindTcp = 1ULL << 0;         // Version 4.
constexpr uint64_t kAccessIoctlDevice = 1ULL << 15;       // Version 5.
constexpr uint64_t kScopeAbstractUnixSocket = 1ULL << 0;  // Version 6.
constexpr uint64_t kScopeSignal = 1ULL << 1;

struct RulesetAttributes {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;
  uint64_t scoped;
};

constexpr uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE;
constexpr uint64_t kReadTree = kReadFile | LANDLOCK_ACCESS_FS_READ_DIR;

// Everything the first two versions know.
constexpr uint64_t kAllAccess = (LANDLOCK_ACCESS_FS_REFER << 1) - 1;

absl::Status AllowBeneath(int ruleset, int fd, uint64_t access) {
  const landlock_path_beneath_attr rule = {access, fd};
  if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return base::ErrnoStatus(errno, "landlock_add_rule");
  }
  return absl::OkStatus();
}

absl::Status AllowReading(int ruleset, const std::string& path) {
  const base::UniqueFd fd(open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat found = {};
  if (!fd.valid() || fstat(fd.get(), &found) != 0) {
    return absl::OkStatus();
  }
  return AllowBeneath(ruleset, fd.get(), S_ISDIR(found.st_mode) ? kReadTree : kReadFile);
}

uint64_t Bit(int capability) { return uint64_t{1} << capability; }

}  // namespace

absl::Status ForgoNewPrivileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return base::ErrnoStatus(errno, "set no_new_privs");
  }
  return absl::OkStatus();
}

absl::StatusOr<Landlock> ConfineFiles(const std::vector<std::string>& readable,
                                      const std::vector<int>& writable, Signals signals) {
  const long version =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 2) {
    return Landlock::kMissing;
  }
  RulesetAttributes attributes = {};
  attributes.handled_access_fs =
      kAllAccess | (version >= 3 ? kAccessTruncate : 0) | (version >= 5 ? kAccessIoctlDevice : 0);
  attributes.handled_access_net = version >= 4 ? kAccessNetBindTcp : 0;
  attributes.scoped = version < 6                     ? 0
                      : signals == Signals::kChildren ? kScopeAbstractUnixSocket
                                                      : kScopeAbstractUnixSocket | kScopeSignal;
  // Older kernels know a shorter structure.
  const size_t size = version >= 6   ? sizeof(attributes)
                      : version >= 4 ? offsetof(RulesetAttributes, scoped)
                                     : offsetof(RulesetAttributes, handled_access_net);
  const base::UniqueFd ruleset(
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, size, 0)));
  if (!ruleset.valid()) {
    return base::ErrnoStatus(errno, "landlock_create_ruleset");
  }
  for (const std::string& path : readable) {
    RETURN_IF_ERROR(AllowReading(ruleset.get(), path));
  }
  const uint64_t write_access =
      attributes.handled_access_fs &
      ~(static_cast<uint64_t>(LANDLOCK_ACCESS_FS_EXECUTE) |
        static_cast<uint64_t>(LANDLOCK_ACCESS_FS_MAKE_SOCK) | kAccessIoctlDevice);
  for (const int directory : writable) {
    RETURN_IF_ERROR(AllowBeneath(ruleset.get(), directory, write_access));
  }
  if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return base::ErrnoStatus(errno, "landlock_restrict_self");
  }
  return Landlock::kEnforced;
}

std::vector<std::string> NetworkFiles() {
  return {"/etc/resolv.conf",
          "/etc/hosts",
          "/etc/nsswitch.conf",
          "/etc/host.conf",
          "/etc/gai.conf",
          "/etc/services",
          "/etc/protocols",
          "/etc/localtime",
          "/etc/ssl/certs",
          "/etc/ssl/openssl.cnf",
          "/etc/pki/tls/certs",
          "/etc/pki/tls/openssl.cnf",
          "/etc/pki/ca-trust/extracted",
          "/etc/ca-certificates",
          "/etc/crypto-policies",
          "/etc/ld.so.cache",
          "/run/systemd/resolve",
          "/usr/share/ca-certificates",
          "/usr/local/share/ca-certificates",
          "/usr/share/pki",
          "/usr/share/zoneinfo",
          "/lib",
          "/lib64",
          "/usr/lib",
          "/usr/lib64",
          "/usr/local/lib",
          "/dev/null",
          "/dev/urandom"};
}

absl::Status EnterRoot(int directory) {
  if (fchdir(directory) != 0 || chroot(".") != 0) {
    return base::ErrnoStatus(errno, "chroot into the layer's folder");
  }
  return absl::OkStatus();
}

absl::Status DropCapabilities(Role role) {
  uint64_t keep = 0;
  if (role == Role::kArchiveReader) {
    keep = Bit(CAP_DAC_READ_SEARCH);  // Of a directory; Landlock says which.
  }
  if (role == Role::kArchiveWriter) {
    // Overlayfs notes what is opaque where only CAP_SYS_ADMIN can read it. What else that one may
    // do is not among the system calls.
    keep = Bit(CAP_DAC_READ_SEARCH) | Bit(CAP_DAC_OVERRIDE) | Bit(CAP_SYS_ADMIN);
  }
  if (role == Role::kForker || role == Role::kParser) {
    keep = Bit(CAP_CHOWN) | Bit(CAP_DAC_OVERRIDE) | Bit(CAP_FOWNER) | Bit(CAP_FSETID) |
           Bit(CAP_SETFCAP);
  }
  if (role == Role::kForker) {
    keep |= Bit(CAP_SYS_CHROOT);  // For its parsers to be.
  }
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) {
    return base::ErrnoStatus(errno, "capget");
  }
  for (int i = 0; i < 2; ++i) {
    const auto mask = static_cast<uint32_t>(keep >> (32 * i));
    data[i].permitted &= mask;
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    return base::ErrnoStatus(errno, "clear the ambient capabilities");
  }
  if (syscall(SYS_capset, &header, data) != 0) {
    return base::ErrnoStatus(errno, "capset");
  }
  return absl::OkStatus();
}

absl::Status LimitMemory(uint64_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  bytes = RLIM_INFINITY;
#endif
  const rlimit limit = {bytes, bytes};
  if (setrlimit(RLIMIT_DATA, &limit) != 0) {
    return base::ErrnoStatus(errno, "limit the memory");
  }
  return absl::OkStatus();
}

}  // namespace imageservice::worker
