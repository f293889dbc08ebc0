#include "network/user_namespace.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace network {
namespace {

constexpr int kPatienceMilliseconds = 30'000;
constexpr std::string_view kReady = "ready\n";
// The exit status of `crisp-init hold` when a limit of namespaces is reached.
constexpr int kLimitReached = 3;

struct Pipe {
  base::UniqueFd read;
  base::UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return base::ErrnoStatus(errno, "make a pipe");
  }
  return Pipe{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

// The holder's output up to its "ready", or up to its end: then it is what it complained about.
absl::StatusOr<std::string> ReadWords(int output) {
  std::string words;
  char buffer[512];
  while (words.size() < sizeof(buffer) && words != kReady) {
    pollfd entry = {output, POLLIN, 0};
    const int ready = poll(&entry, 1, kPatienceMilliseconds);
    if (ready < 0 && errno == EINTR) {
      continue;
    }
    if (ready <= 0) {
      return absl::DeadlineExceededError("the holder of new namespaces says nothing");
    }
    const ssize_t got = read(output, buffer, sizeof(buffer));
    if (got <= 0) {
      break;
    }
    words.append(buffer, static_cast<size_t>(got));
  }
  return words;
}

absl::Status WriteMap(pid_t pid, const char* file, const base::IdRange& range) {
  const std::string path = base::StrCat("/proc/", pid, "/", file);
  const absl::Status status = base::WriteControlFile(path, base::IdMapLine(range));
  return status.ok() ? status
                     : absl::FailedPreconditionError(
                           base::StrCat("map ids of a user namespace: ", status.message()));
}

}  // namespace

absl::Status NamespaceError(int error) {
  if (error == ENOSPC || error == EUSERS) {
    return absl::ResourceExhaustedError(
        "no more namespaces: a limit below /proc/sys/user (max_user_namespaces, "
        "max_net_namespaces, …) is reached");
  }
  return base::ErrnoStatus(error, "unshare namespaces");
}

absl::StatusOr<NamespaceHolder> NamespaceHolder::Start(const NewUserNamespace& user,
                                                       const std::vector<std::string>& types) {
  ASSIGN_OR_RETURN(Pipe input, MakePipe());
  ASSIGN_OR_RETURN(Pipe output, MakePipe());
  base::Command command;
  command.argv = {user.holder, "hold"};
  for (const std::string& type : types) {
    command.argv.push_back("--" + type);
  }
  command.stdin_fd = input.read.get();
  command.stdout_fd = output.write.get();
  command.stderr_fd = output.write.get();
  ASSIGN_OR_RETURN(base::Subprocess child, base::Subprocess::Spawn(command));
  NamespaceHolder holder(std::move(child), std::move(input.write));
  output.write.Reset();
  ASSIGN_OR_RETURN(std::string words, ReadWords(output.read.get()));
  if (words != kReady) {
    ASSIGN_OR_RETURN(
        const base::ExitState exit,
        holder.child_.Wait(base::Context::Detached(absl::Milliseconds(kPatienceMilliseconds))));
    if (exit.code == kLimitReached) {
      return NamespaceError(ENOSPC);
    }
    while (!words.empty() && words.back() == '\n') {
      words.pop_back();
    }
    return absl::FailedPreconditionError(base::StrCat("make a user namespace: ", words));
  }
  RETURN_IF_ERROR(WriteMap(holder.pid(), "uid_map", user.map.uids));
  RETURN_IF_ERROR(WriteMap(holder.pid(), "gid_map", user.map.gids));
  return holder;
}

std::string OutsideSysctl(std::string_view path, const std::string& value, const base::IdMap& map) {
  if (path != "/proc/sys/net/ipv4/ping_group_range") {
    return value;
  }
  const std::vector<std::string> words =
      absl::StrSplit(value, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
  uint32_t first = 0;
  uint32_t last = 0;
  // An empty range, and what the kernel is to refuse, stays as it is.
  if (words.size() != 2 || !absl::SimpleAtoi(words[0], &first) ||
      !absl::SimpleAtoi(words[1], &last) || first > last) {
    return value;
  }
  const auto outside = [&](uint32_t group) {
    const uint32_t end = map.gids.inside + map.gids.length - 1;
    return *map.gids.Outside(std::clamp(group, map.gids.inside, end));
  };
  return base::StrCat(outside(first), " ", outside(last));
}

absl::Status WriteOwnedSysctl(const std::string& path, const std::string& value,
                              const base::IdMap& map) {
  const std::string text = OutsideSysctl(path, value, map);
  absl::Status written = base::WriteControlFile(path, text);
  const std::optional<uint32_t> root = map.uids.Outside(0);
  if (written.ok() || !root.has_value()) {
    return written;
  }
  // Those of an IPC namespace belong to its owner's root alone since Linux 6.11 or so, whatever the
  // writer's capabilities. The system call itself changes this thread only; glibc's all of them.
  if (syscall(SYS_setresuid, -1, *root, -1) != 0) {
    return written;
  }
  const absl::Status again = base::WriteControlFile(path, text);
  if (syscall(SYS_setresuid, -1, 0, -1) != 0) {
    return base::ErrnoStatus(errno, "become root again");
  }
  return again.ok() ? again : written;
}

}  // namespace network
