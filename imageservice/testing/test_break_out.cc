#include "imageservice/testing/test_break_out.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace imageservice::testing {
namespace {

class Attempts {
 public:
  explicit Attempts(const Target& target) : target_(target) {}

  std::string Run() {
    for (const std::string& folder : {target_.folder, target_.store}) {
      TryFiles(folder);
    }
    // In a root of its own a process may well do these: whoever called looks what became of it.
    const std::string successes = successes_;
    for (const std::string& folder : {std::string(".."), "../../../../../../../.." + target_.folder,
                                      "../../../../../../../.." + target_.store}) {
      TryFiles(folder);
    }
    successes_ = successes;
    TryDescriptors();
    TryProcesses();
    TrySockets();
    TryKernel();
    return successes_;
  }

 private:
  void Note(const char* what, const std::string& on, bool has_succeeded) {
    if (has_succeeded) {
      successes_ += std::string(what) + " " + on + "\n";
    }
  }

  // By the calls that take a directory where there are two: only these are in a parser's list.
  void TryFiles(const std::string& folder) {
    const std::string fresh = folder + "/broken-out";
    const std::string file = folder + "/file";
    const timespec times[2] = {{1, 0}, {1, 0}};
    Note("create", fresh, openat(AT_FDCWD, fresh.c_str(), O_WRONLY | O_CREAT, 0666) >= 0);
    Note("open to write", file, open(file.c_str(), O_WRONLY) >= 0);
    Note("truncate", file, truncate(file.c_str(), 0) == 0);
    Note("mkdir", fresh, mkdirat(AT_FDCWD, fresh.c_str(), 0777) == 0);
    Note("symlink", fresh, symlinkat("/etc/shadow", AT_FDCWD, fresh.c_str()) == 0);
    Note("link to", fresh, linkat(AT_FDCWD, "content", AT_FDCWD, fresh.c_str(), 0) == 0);
    Note("link from", file, linkat(AT_FDCWD, file.c_str(), AT_FDCWD, "stolen", 0) == 0);
    Note("rename to", fresh, rename("content", fresh.c_str()) == 0);
    Note("rename from", file, rename(file.c_str(), "stolen") == 0);
    Note("unlink", file, unlinkat(AT_FDCWD, file.c_str(), 0) == 0);
    Note("mknod", fresh, mknodat(AT_FDCWD, fresh.c_str(), S_IFCHR | 0666, makedev(1, 1)) == 0);
    Note("fifo", fresh, mknodat(AT_FDCWD, fresh.c_str(), S_IFIFO | 0666, 0) == 0);
    Note("chmod", file, fchmodat(AT_FDCWD, file.c_str(), 04777, 0) == 0);
    Note("chmod", folder, fchmodat(AT_FDCWD, folder.c_str(), 0777, 0) == 0);
    Note("chown", file, fchownat(AT_FDCWD, file.c_str(), 1, 1, AT_SYMLINK_NOFOLLOW) == 0);
    Note("set xattr", file, lsetxattr(file.c_str(), "trusted.x", "y", 1, 0) == 0);
    Note("set times", file, utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
    Note("mount", folder, mount("none", folder.c_str(), "tmpfs", 0, nullptr) == 0);
    Note("unmount", folder, umount2(folder.c_str(), MNT_DETACH) == 0);
    Note("chroot", folder, chroot(folder.c_str()) == 0);
    Note("read", file, open(file.c_str(), O_RDONLY) >= 0);
  }

  // Directories that were left open would be ways out.
  void TryDescriptors() {
    for (int fd = 0; fd < 64; ++fd) {
      for (const char* path : {"../file", "../../file", "../staging", "../layers", "../records"}) {
        const std::string on = std::to_string(fd) + " " + path;
        Note("open from", on, openat(fd, path, O_RDONLY) >= 0);
        Note("chmod from", on, fchmodat(fd, path, 0777, 0) == 0);
        Note("mkdir from", on, mkdirat(fd, (std::string(path) + "/broken-out").c_str(), 0777) == 0);
      }
    }
    Note("open", "/proc/self/mem", open("/proc/self/mem", O_RDWR) >= 0);
    Note("open", "/proc/1/root", open("/proc/1/root", O_RDONLY) >= 0);
  }

  void TryProcesses() {
    char byte = 0;
    const iovec local = {&byte, 1};
    const iovec remote = {&byte, 1};
    for (const pid_t process : {target_.process, getppid(), pid_t{1}}) {
      if (process <= 0) {
        continue;
      }
      const std::string on = std::to_string(process);
      Note("signal", on, kill(process, SIGCONT) == 0);
      Note("trace", on, ptrace(PTRACE_SEIZE, process, nullptr, nullptr) == 0);
      Note("read memory of", on, process_vm_readv(process, &local, 1, &remote, 1, 0) >= 0);
      const auto pidfd = syscall(SYS_pidfd_open, process, 0);
      Note("pidfd of", on, pidfd >= 0);
      Note("take a descriptor of", on, syscall(SYS_pidfd_getfd, pidfd, 4, 0) >= 0);
    }
    const pid_t child = fork();
    if (child == 0) {
      _exit(0);
    }
    Note("fork", "", child > 0);
    Note("enter namespaces", "", unshare(CLONE_NEWUSER) == 0 || unshare(CLONE_NEWNS) == 0);
    Note("become", "nobody", setuid(65534) == 0);
    execl("/bin/true", "true", nullptr);
  }

  void TrySockets() {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, (target_.folder + "/socket").c_str(), sizeof(address.sun_path) - 1);
    for (const int type : {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}) {
      const int fd = socket(AF_UNIX, type, 0);
      Note("make a unix socket", std::to_string(type), fd >= 0);
      Note("connect", address.sun_path,
           connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    }
    Note("make a socket", "packet", socket(AF_PACKET, SOCK_RAW, 0) >= 0);
    Note("make a socket", "raw", socket(AF_INET, SOCK_RAW, 1) >= 0);
    Note("make a socket", "vsock", socket(AF_VSOCK, SOCK_STREAM, 0) >= 0);
    // One half of a pair of datagram sockets could be pointed at anybody.
    int pair[2];
    const bool has_pair = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0;
    Note("connect a pair to", address.sun_path,
         has_pair &&
             connect(pair[0], reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  }

  void TryKernel() {
    Note("bpf", "", syscall(SYS_bpf, 0, nullptr, 0) >= 0 || errno != EPERM);
    Note("io_uring", "", syscall(SYS_io_uring_setup, 1, nullptr) >= 0 || errno != EPERM);
    Note("userfaultfd", "", syscall(SYS_userfaultfd, 0) >= 0);
    Note("keyctl", "", syscall(SYS_keyctl, 0, 0, 0) >= 0);
    Note("open by handle", "",
         syscall(SYS_open_by_handle_at, 0, nullptr, 0) >= 0 || errno != EPERM);
    Note("share pages", "", syscall(SYS_vmsplice, 0, nullptr, 0, 0) >= 0 || errno != EPERM);
    Note("reboot", "", syscall(SYS_reboot, 0, 0, 0, nullptr) >= 0);
  }

  const Target& target_;
  std::string successes_;
};

}  // namespace

Target TargetOfEnvironment() {
  return {.folder = std::getenv("OUTSIDE"),
          .store = std::getenv("STORE"),
          .process = std::atoi(std::getenv("DAEMON"))};
}

std::string BreakOut(const Target& target) { return Attempts(target).Run(); }

}  // namespace imageservice::testing
