#include "network/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/mounts.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/undo.h"
#include "base/unique_fd.h"
#include "network/user_namespace.h"

namespace network {
namespace {

constexpr size_t kStackBytes = size_t{256} * 1024;

struct NamespaceType {
  std::string_view name;
  int flag;
};
constexpr std::array<NamespaceType, 4> kTypes = {
    {{"net", CLONE_NEWNET}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}, {"user", CLONE_NEWUSER}}};

// The clone(2) flag of a type; 0 for an unknown one.
int FlagOf(std::string_view type) {
  for (const NamespaceType& known : kTypes) {
    if (known.name == type) {
      return known.flag;
    }
  }
  return 0;
}

// The flags of all namespaces of `setup`, once it is known to be sound.
absl::StatusOr<int> CheckSetup(const NamespaceSetup& setup) {
  int flags = 0;
  for (const NamespacePin& pin : setup.pins) {
    const int flag = FlagOf(pin.type);
    if (flag == 0 || (flags & flag) != 0) {
      return absl::InvalidArgumentError(base::StrCat("namespace type \"", pin.type, "\" is ",
                                                     flag == 0 ? "unknown" : "repeated"));
    }
    flags |= flag;
  }
  for (const auto& [name, value] : setup.sysctls) {
    ASSIGN_OR_RETURN(const std::string type, SysctlNamespace(name));
    if ((flags & FlagOf(type)) == 0) {
      return absl::InvalidArgumentError(
          base::StrCat("sysctls[\"", name, "\"]: the pod has no ", type, " namespace of its own"));
    }
  }
  if (!setup.hostname.empty() && (flags & CLONE_NEWUTS) == 0) {
    return absl::InvalidArgumentError("a host name needs a uts namespace");
  }
  if (setup.user.has_value() != ((flags & CLONE_NEWUSER) != 0)) {
    return absl::InvalidArgumentError("a user namespace needs its maps, and they need its pin");
  }
  return flags;
}

std::vector<std::string> TypesOf(const NamespaceSetup& setup) {
  std::vector<std::string> types;
  for (const NamespacePin& pin : setup.pins) {
    types.push_back(pin.type);
  }
  return types;
}

absl::Status MakePinFile(const std::string& path) {
  RETURN_IF_ERROR(base::MakeDirectories(std::filesystem::path(path).parent_path().string()));
  RETURN_IF_ERROR(UnpinNamespace(path));
  return base::Open(path, O_RDONLY | O_CREAT | O_EXCL, 0444).status();
}

// In the namespaces of the calling thread.
absl::Status SetSysctl(const std::string& name, const std::string& value) {
  ASSIGN_OR_RETURN(const std::string path, SysctlPath(name));
  const base::UniqueFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.valid() &&
      write(file.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size())) {
    return absl::OkStatus();
  }
  const int error = errno;
  const std::string field = base::StrCat("sysctls[\"", name, "\"]");
  switch (error) {
    case ENOENT:
    case EACCES:
    case EPERM:
      return absl::FailedPreconditionError(
          base::StrCat(field, ": a pod's namespaces have no such parameter on this kernel"));
    case EINVAL:
    case ERANGE:
      return absl::InvalidArgumentError(
          base::StrCat(field, ": the kernel does not take the value \"", value, "\""));
    default:
      return base::ErrnoStatus(error, field);
  }
}

// Everything the fresh thread works with.
struct ThreadTask {
  const NamespaceSetup& setup;
  int flags = 0;
  pid_t holder = 0;  // Of the namespaces, where they have an owner; 0: the thread makes them.
  absl::Status status;
};

absl::Status Enter(const ThreadTask& task) {
  if (task.holder == 0) {
    return unshare(task.flags) == 0 ? absl::OkStatus() : NamespaceError(errno);
  }
  for (const NamespacePin& pin : task.setup.pins) {
    if (pin.type == "user") {
      continue;  // No thread can; the rights in the others are ours from outside.
    }
    const std::string path = base::StrCat("/proc/", task.holder, "/ns/", pin.type);
    ASSIGN_OR_RETURN(const base::UniqueFd space, base::Open(path, O_RDONLY));
    if (setns(space.get(), FlagOf(pin.type)) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("enter ", path));
    }
  }
  return absl::OkStatus();
}

// Runs on the fresh thread.
absl::Status EnterAndPin(const ThreadTask& task) {
  const NamespaceSetup& setup = task.setup;
  RETURN_IF_ERROR(Enter(task));
  for (const NamespacePin& pin : setup.pins) {
    // /proc/self would be the namespaces of the main thread.
    const std::string source = pin.type == "user" ? base::StrCat("/proc/", task.holder, "/ns/user")
                                                  : base::StrCat("/proc/thread-self/ns/", pin.type);
    if (mount(source.c_str(), pin.path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      return base::ErrnoStatus(errno, base::StrCat("pin a namespace at ", pin.path));
    }
  }
  for (const auto& [name, value] : setup.sysctls) {
    if (!setup.user.has_value()) {
      RETURN_IF_ERROR(SetSysctl(name, value));
      continue;
    }
    ASSIGN_OR_RETURN(const std::string path, SysctlPath(name));
    RETURN_IF_ERROR(base::Annotate(WriteOwnedSysctl(path, value, setup.user->map),
                                   base::StrCat("sysctls[\"", name, "\"]")));
  }
  if (!setup.hostname.empty() && sethostname(setup.hostname.data(), setup.hostname.size()) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("set the host name ", setup.hostname));
  }
  return (task.flags & CLONE_NEWNET) != 0 ? BringUpLoopback() : absl::OkStatus();
}

void* RunThreadTask(void* argument) {
  auto* task = static_cast<ThreadTask*>(argument);
  task->status = EnterAndPin(*task);
  return nullptr;
}

absl::Status RunOnFreshThread(ThreadTask task) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, RunThreadTask, &task);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    return base::ErrnoStatus(error, "start a thread for new namespaces");
  }
  pthread_join(thread, nullptr);
  return task.status;
}

// Whether mounts made below `directory` reach other mount namespaces: /proc/self/mountinfo has
// "shared:N" among the optional fields of the mount that `directory` lies on.
absl::StatusOr<bool> IsOnSharedMount(const std::string& directory) {
  struct statx facts = {};
  if (statx(AT_FDCWD, directory.c_str(), 0, STATX_MNT_ID, &facts) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("statx ", directory));
  }
  ASSIGN_OR_RETURN(const std::string mounts, base::ReadFile("/proc/self/mountinfo"));
  for (const absl::string_view line : absl::StrSplit(mounts, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    uint64_t id = 0;
    if (fields.size() < 7 || !absl::SimpleAtoi(fields[0], &id) || id != facts.stx_mnt_id) {
      continue;
    }
    const auto end = std::find(fields.begin() + 6, fields.end(), "-");
    return std::any_of(fields.begin() + 6, end,
                       [](absl::string_view field) { return field.substr(0, 7) == "shared:"; });
  }
  return absl::NotFoundError(base::StrCat("no mount of ", directory, " in /proc/self/mountinfo"));
}

bool IsNameByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.' || c == ':' || c == '@';
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// The parts of a parameter's name, each one directory or file below /proc/sys.
absl::StatusOr<std::vector<std::string>> SysctlParts(std::string_view name) {
  const size_t first = name.find_first_of("./");
  const char separator = first == std::string_view::npos ? '.' : name[first];
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c == '/' ? '.' : c;
    }
  }
  for (const std::string& part : parts) {
    if (part.empty() || part == "." || part == ".." ||
        !std::all_of(part.begin(), part.end(), IsNameByte)) {
      return absl::InvalidArgumentError(base::StrCat("\"", name, "\" is not a sysctl"));
    }
  }
  return parts;
}

// One request and its acknowledgement, as netlink lays them out.
struct LinkRequest {
  nlmsghdr header;
  ifinfomsg link;
  rtattr attribute;
  char name[4];
};

}  // namespace

std::string NetnsPath(std::string_view directory, const base::PodId& pod) {
  return base::StrCat(directory, "/crisp-", pod.str());
}

absl::Status PrepareNetnsDirectory(const std::string& directory) {
  RETURN_IF_ERROR(base::MakeDirectories(directory));
  // ip(8) takes the same lock for the same purpose.
  ASSIGN_OR_RETURN(const base::UniqueFd lock, base::Open(directory, O_RDONLY | O_DIRECTORY));
  while (flock(lock.get(), LOCK_EX) != 0) {
    if (errno != EINTR) {
      return base::ErrnoStatus(errno, base::StrCat("lock ", directory));
    }
  }
  ASSIGN_OR_RETURN(const bool shared, IsOnSharedMount(directory));
  if (shared) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const bool mounted, base::IsMountPoint(directory));
  if (!mounted &&
      mount(directory.c_str(), directory.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("bind ", directory, " on itself"));
  }
  if (mount(nullptr, directory.c_str(), nullptr, MS_SHARED | MS_REC, nullptr) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("make ", directory, " a shared mount"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, uint64_t>> PinNamespaces(const NamespaceSetup& setup) {
  ASSIGN_OR_RETURN(const int flags, CheckSetup(setup));
  base::Undo undo;
  for (const NamespacePin& pin : setup.pins) {
    undo.Add([&pin] { UnpinNamespace(pin.path).IgnoreError(); });
    RETURN_IF_ERROR(MakePinFile(pin.path));
  }
  std::optional<NamespaceHolder> holder;
  if (setup.user.has_value()) {
    ASSIGN_OR_RETURN(holder, NamespaceHolder::Start(*setup.user, TypesOf(setup)));
  }
  RETURN_IF_ERROR(RunOnFreshThread({.setup = setup,
                                    .flags = flags,
                                    .holder = holder.has_value() ? holder->pid() : 0,
                                    .status = absl::OkStatus()}));
  std::map<std::string, uint64_t> inodes;
  for (const NamespacePin& pin : setup.pins) {
    ASSIGN_OR_RETURN(inodes[pin.type], NamespaceInode(pin.path));
  }
  undo.Commit();
  return inodes;
}

absl::StatusOr<uint64_t> PinProcessNamespace(pid_t pid, const NamespacePin& pin) {
  RETURN_IF_ERROR(MakePinFile(pin.path));
  base::Undo undo;
  undo.Add([&pin] { UnpinNamespace(pin.path).IgnoreError(); });
  const std::string source = base::StrCat("/proc/", pid, "/ns/", pin.type);
  if (mount(source.c_str(), pin.path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("pin ", source, " at ", pin.path));
  }
  ASSIGN_OR_RETURN(const uint64_t inode, NamespaceInode(pin.path));
  undo.Commit();
  return inode;
}

absl::Status UnpinNamespace(const std::string& path) {
  RETURN_IF_ERROR(base::Annotate(base::Unmount(path), "unpin a namespace"));
  return base::Annotate(base::RemoveFile(path), "unpin a namespace");
}

absl::Status UnpinNetns(std::string_view directory, const base::PodId& pod) {
  return UnpinNamespace(NetnsPath(directory, pod));
}

absl::StatusOr<uint64_t> NamespaceInode(const std::string& path) {
  struct statfs system = {};
  struct stat facts = {};
  if (statfs(path.c_str(), &system) != 0 || stat(path.c_str(), &facts) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("stat ", path));
  }
  if (system.f_type != NSFS_MAGIC) {
    return absl::FailedPreconditionError(base::StrCat(path, " is not a namespace"));
  }
  return facts.st_ino;
}

absl::StatusOr<std::string> SysctlNamespace(std::string_view name) {
  ASSIGN_OR_RETURN(const std::vector<std::string> parts, SysctlParts(name));
  if (parts[0] == "net" && parts.size() > 1) {
    return std::string("net");
  }
  if (parts.size() == 2 && parts[0] == "kernel" &&
      (StartsWith(parts[1], "shm") || StartsWith(parts[1], "msg") || parts[1] == "sem")) {
    return std::string("ipc");
  }
  if (parts.size() == 3 && parts[0] == "fs" && parts[1] == "mqueue") {
    return std::string("ipc");
  }
  return absl::InvalidArgumentError(
      base::StrCat("sysctl ", name, " belongs to the host, not to a pod"));
}

absl::StatusOr<std::string> SysctlPath(std::string_view name) {
  ASSIGN_OR_RETURN(const std::vector<std::string> parts, SysctlParts(name));
  std::string path = "/proc/sys";
  for (const std::string& part : parts) {
    path += base::StrCat("/", part);
  }
  return path;
}

absl::Status BringUpLoopback() {
  const base::UniqueFd netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!netlink.valid()) {
    return base::ErrnoStatus(errno, "bring up lo: open a netlink socket");
  }
  LinkRequest request = {};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(ifinfomsg) + RTA_LENGTH(3));
  request.header.nlmsg_type = RTM_NEWLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.link.ifi_family = AF_UNSPEC;
  request.link.ifi_flags = IFF_UP;
  request.link.ifi_change = IFF_UP;
  request.attribute = {.rta_len = RTA_LENGTH(3), .rta_type = IFLA_IFNAME};
  std::memcpy(request.name, "lo", 3);
  if (send(netlink.get(), &request, request.header.nlmsg_len, 0) < 0) {
    return base::ErrnoStatus(errno, "bring up lo: send to netlink");
  }
  // The kernel answers before send returns, with the request inside its acknowledgement.
  struct {
    nlmsghdr header;
    nlmsgerr error;
    char rest[256];
  } answer = {};
  const ssize_t got = recv(netlink.get(), &answer, sizeof(answer), 0);
  if (got < 0) {
    return base::ErrnoStatus(errno, "bring up lo: receive from netlink");
  }
  if (static_cast<size_t>(got) < sizeof(answer.header) + sizeof(answer.error) ||
      answer.header.nlmsg_type != NLMSG_ERROR) {
    return absl::InternalError("bring up lo: netlink gave no acknowledgement");
  }
  return answer.error.error == 0 ? absl::OkStatus()
                                 : base::ErrnoStatus(-answer.error.error, "bring up lo");
}

}  // namespace network
