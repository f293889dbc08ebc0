// The system calls each role may make. Lists are of what is allowed, so that a call added to the
// kernel tomorrow is refused.
#include <fcntl.h>
#include <linux/netlink.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/sandbox.h"

namespace imageservice::worker {
namespace {

// Memory, time, plain reading and writing, and how a process ends.
constexpr const char* kCommon[] = {
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "exit",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "getpid",
    "gettid",
    "getrandom",
    "gettimeofday",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "poll",
    "ppoll",
    "pread64",
    "read",
    "readv",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sigaltstack",
    "time",
    "write",
    "writev",
    "rseq",
    "set_robust_list",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "uname",
};

constexpr const char* kNetworkOnly[] = {
    "access",
    "bind",
    "clock_getres",
    "connect",
    "dup",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "faccessat",
    "faccessat2",
    "getcwd",
    "getdents64",
    "getpeername",
    "getppid",
    "getsockname",
    "getsockopt",
    "ioctl",
    "lstat",
    "membarrier",
    "pipe2",
    "pselect6",
    "readlink",
    "recvfrom",
    "readlinkat",
    "recvmmsg",
    "recvmsg",
    "sched_getaffinity",
    "select",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    "stat",
    "statx",
    "sysinfo",
};

constexpr const char* kParserFiles[] = {
    "fchmod",     "fchmodat", "fchown",     "fchownat", "fsetxattr", "ftruncate",
    "getdents64", "linkat",   "mkdirat",    "mknodat",  "open",      "openat",
    "openat2",    "pwrite64", "readlinkat", "stat",     "symlinkat", "sync_file_range",
    "umask",      "unlinkat", "utimensat",
};

// The forker makes verifiers and parsers of its children, which take their own rights away.
constexpr const char* kForkerOnly[] = {
    "capget",
    "capset",
    "chroot",
    "fchdir",
    "getppid",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "memfd_create",
    "pipe2",
    "prctl",
    "recvmsg",
    "seccomp",
    "sendmsg",
    "set_tid_address",
    "wait4",
    "waitid",
};

// Talking to daemon and forker over sockets that are there already, and threads.
constexpr const char* kArchive[] = {
    "dup",        "getdents64",        "getppid", "membarrier", "pipe2", "recvfrom", "recvmsg",
    "readlinkat", "sched_getaffinity", "sendmsg", "sendto",     "statx", "sysinfo",
};

constexpr const char* kArchiveOutput[] = {
    "fgetxattr", "fsync",     "ftruncate", "getxattr", "open",
    "openat",    "listxattr", "mkdirat",   "pwrite64", "renameat",
};

#ifdef __SANITIZE_ADDRESS__
// The sanitizers ask whether memory is readable by writing it into a pipe.
constexpr const char* kSanitizers[] = {"pipe", "pipe2", "readlink"};
#endif

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM)), seccomp_release) {}

  template <size_t N>
  void Allow(const char* const (&names)[N]) {
    for (const char* name : names) {
      Rule(SCMP_ACT_ALLOW, name);
    }
  }

  template <typename... Comparisons>
  void Rule(uint32_t action, const char* name, Comparisons... comparisons) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number < 0 || error_ != 0) {
      return;  // Another architecture lacks this one.
    }
    error_ =
        seccomp_rule_add(context_.get(), action, number, sizeof...(comparisons), comparisons...);
  }

  absl::Status Load() {
    if (context_ == nullptr) {
      return absl::InternalError("seccomp_init");
    }
    if (error_ == 0) {
      error_ = seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_NNP, 0);  // Is set already.
    }
    if (error_ == 0) {
      error_ = seccomp_load(context_.get());
    }
    return error_ == 0 ? absl::OkStatus() : base::ErrnoStatus(-error_, "load the seccomp filter");
  }

 private:
  std::unique_ptr<void, void (*)(scmp_filter_ctx)> context_;
  int error_ = 0;
};

// Opening to read, in case there is no Landlock that forbids the rest.
void AllowReading(Filter* filter) {
  constexpr scmp_datum_t kChanges =
      O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);
  filter->Rule(SCMP_ACT_ALLOW, "open", SCMP_A1_64(SCMP_CMP_MASKED_EQ, kChanges, O_RDONLY));
  filter->Rule(SCMP_ACT_ALLOW, "openat", SCMP_A2_64(SCMP_CMP_MASKED_EQ, kChanges, O_RDONLY));
}

void AddThreadRules(Filter* filter) {
  // Threads, not processes. clone3 hides its flags in memory: glibc falls back on ENOSYS.
  filter->Rule(SCMP_ACT_ALLOW, "clone", SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  filter->Rule(SCMP_ACT_ERRNO(ENOSYS), "clone3");
  filter->Rule(SCMP_ACT_ALLOW, "tgkill",
               SCMP_A0_64(SCMP_CMP_EQ, static_cast<scmp_datum_t>(getpid())));
  filter->Rule(SCMP_ACT_ALLOW, "prlimit64", SCMP_A0_64(SCMP_CMP_EQ, 0), SCMP_A2_64(SCMP_CMP_EQ, 0));
}

void AddNetworkRules(Filter* filter) {
  filter->Allow(kNetworkOnly);
  AllowReading(filter);
  // Registries are reached by IP; no unix socket, behind which other daemons trust root.
  filter->Rule(SCMP_ACT_ALLOW, "socket", SCMP_A0_64(SCMP_CMP_EQ, AF_INET));
  filter->Rule(SCMP_ACT_ALLOW, "socket", SCMP_A0_64(SCMP_CMP_EQ, AF_INET6));
  filter->Rule(SCMP_ACT_ALLOW, "socket", SCMP_A0_64(SCMP_CMP_EQ, AF_NETLINK),
               SCMP_A2_64(SCMP_CMP_EQ, NETLINK_ROUTE));
  // A pair of streams cannot be pointed at anything else.
  filter->Rule(SCMP_ACT_ALLOW, "socketpair", SCMP_A0_64(SCMP_CMP_EQ, AF_UNIX),
               SCMP_A1_64(SCMP_CMP_MASKED_EQ, 0xf, SOCK_STREAM));
  AddThreadRules(filter);
  filter->Rule(SCMP_ACT_ALLOW, "prctl", SCMP_A0_64(SCMP_CMP_EQ, PR_SET_NAME));
}

void AddArchiveRules(Filter* filter) {
  filter->Allow(kArchive);
  AllowReading(filter);
  AddThreadRules(filter);
}

void AddForkerRules(Filter* filter) {
  filter->Allow(kParserFiles);
  filter->Allow(kForkerOnly);
  constexpr scmp_datum_t kNamespaces = 0x7e020000;  // All CLONE_NEW* flags that clone(2) takes.
  filter->Rule(SCMP_ACT_ALLOW, "clone", SCMP_A0_64(SCMP_CMP_MASKED_EQ, kNamespaces, 0));
  filter->Rule(SCMP_ACT_ERRNO(ENOSYS), "clone3");
  filter->Rule(SCMP_ACT_ALLOW, "prlimit64", SCMP_A0_64(SCMP_CMP_EQ, 0));
  filter->Rule(SCMP_ACT_ALLOW, "kill", SCMP_A1_64(SCMP_CMP_EQ, SIGKILL));
}

void AddVerifierRules(Filter* filter, pid_t child) {
  filter->Rule(SCMP_ACT_ALLOW, "sendmsg");
  filter->Rule(SCMP_ACT_ALLOW, "waitid");
  filter->Rule(SCMP_ACT_ALLOW, "kill", SCMP_A0_64(SCMP_CMP_EQ, static_cast<scmp_datum_t>(child)),
               SCMP_A1_64(SCMP_CMP_EQ, SIGKILL));
}

}  // namespace

absl::Status FilterSystemCalls(Role role, pid_t child) {
  Filter filter;
  filter.Allow(kCommon);
#ifdef __SANITIZE_ADDRESS__
  filter.Allow(kSanitizers);
#endif
  switch (role) {
    case Role::kNetwork:
      AddNetworkRules(&filter);
      break;
    case Role::kForker:
      AddForkerRules(&filter);
      break;
    case Role::kVerifier:
      AddVerifierRules(&filter, child);
      break;
    case Role::kParser:
      filter.Allow(kParserFiles);
      break;
    case Role::kArchiveReader:
      AddArchiveRules(&filter);
      break;
    case Role::kArchiveWriter:
      AddArchiveRules(&filter);
      filter.Allow(kArchiveOutput);
      break;
  }
  return filter.Load();
}

}  // namespace imageservice::worker
