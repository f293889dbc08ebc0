// The "mounts" part of config.json.
#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/spec_parts.h"
#include "runtimeservice/spec/user_namespace.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;

struct MountEntry {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
};

MountEntry Bind(std::string destination, std::string source, std::vector<std::string> options) {
  return {std::move(destination), "bind", std::move(source), std::move(options)};
}

// The kernel's file systems.
std::vector<MountEntry> KernelMounts(const SpecInput& input, const NamespaceModes& modes) {
  const std::string access = Security(input).privileged() ? "rw" : "ro";
  std::vector<MountEntry> mounts = {
      {"/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}},
      {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
      {"/dev/pts",
       "devpts",
       "devpts",
       {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
      input.sysfs.empty()
          ? MountEntry{"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", access}}
          : Bind("/sys", input.sysfs, {"rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"}),
      {"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", access}},
  };
  const std::optional<base::IdMap> map = PodIdMap(input.pod);
  constexpr uint32_t kTtyGroup = 5;
  if (!map.has_value() || map->gids.Holds(kTtyGroup)) {
    mounts[2].options.push_back(base::StrCat("gid=", kTtyGroup));
  }
  // Shows the queues of the IPC namespace it is mounted in, the host's too; a user namespace may
  // mount it for an IPC namespace that it owns.
  if (!map.has_value() || modes.ipc != cri::NODE) {
    mounts.push_back({"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}});
  }
  if (modes.ipc == cri::NODE) {
    mounts.push_back(Bind("/dev/shm", "/dev/shm", {"rbind", "rw", "nosuid", "noexec", "nodev"}));
  } else if (input.pod_files.shm.empty()) {
    mounts.push_back(
        {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}});
  } else {
    mounts.push_back(
        Bind("/dev/shm", input.pod_files.shm, {"rbind", "rw", "nosuid", "noexec", "nodev"}));
  }
  return mounts;
}

std::vector<MountEntry> PodFileMounts(const SpecInput& input) {
  std::vector<MountEntry> mounts;
  const auto add = [&](const char* destination, const std::string& source) {
    if (!source.empty()) {
      mounts.push_back(Bind(
          destination, source,
          {"rbind", "rprivate", ReadOnlyRootfs(input) ? "ro" : "rw", "nosuid", "noexec", "nodev"}));
    }
  };
  add("/etc/resolv.conf", input.pod_files.resolv_conf);
  add("/etc/hostname", input.pod_files.hostname);
  add("/etc/hosts", input.pod_files.hosts);
  return mounts;
}

// What no request asked for: the node's own mounts, and where a program may write although the node
// makes every root read-only.
std::vector<MountEntry> ExtraMounts(const SpecInput& input) {
  std::vector<MountEntry> mounts;
  // The holder of a PID namespace, without files of its pod, writes nowhere.
  if (input.defaults.read_only_rootfs && !input.pod_files.hosts.empty()) {
    for (const auto& [path, mode] : {std::pair("/run", "mode=0755"), std::pair("/tmp", "mode=1777"),
                                     std::pair("/var/tmp", "mode=1777")}) {
      mounts.push_back(
          {path, "tmpfs", "tmpfs", {"rw", "noexec", "nosuid", "nodev", "tmpcopyup", mode}});
    }
  }
  for (const ExtraMount& mount : input.extra_mounts) {
    mounts.push_back(
        Bind(mount.destination, mount.source, {"rbind", "rprivate", mount.readonly ? "ro" : "rw"}));
  }
  return mounts;
}

const char* PropagationOption(cri::MountPropagation propagation) {
  switch (propagation) {
    case cri::PROPAGATION_HOST_TO_CONTAINER:
      return "rslave";
    case cri::PROPAGATION_BIDIRECTIONAL:
      return "rshared";
    default:
      return "rprivate";
  }
}

absl::StatusOr<MountEntry> RequestedMount(const SpecInput& input, int index) {
  const cri::Mount& mount = input.container.mounts(index);
  const std::string field = base::StrCat("mounts[", index, "].");
  if (mount.recursive_read_only() && !IsImageVolume(mount) && !input.handler.recursive_read_only) {
    return absl::FailedPreconditionError(
        base::StrCat(kRecursiveReadOnlyUnsupported, field,
                     "recursive_read_only: the runtime cannot make mounts recursively read-only"));
  }
  ASSIGN_OR_RETURN(std::string destination, ContainerPath(mount.container_path()));
  const MountSource& source = input.mounts[static_cast<size_t>(index)];
  if (IsImageVolume(mount)) {
    // One mount with nothing below it: already recursively read-only.
    return Bind(std::move(destination), source.path,
                {"rbind", "rprivate", "ro", "nosuid", "nodev"});
  }
  std::vector<std::string> options = {"rbind", PropagationOption(mount.propagation()),
                                      mount.readonly() ? "ro" : "rw"};
  // Nothing is mounted below a file, and crun before 1.16 takes each source for a folder.
  if (mount.recursive_read_only() && source.directory) {
    options.emplace_back("rro");
  }
  return Bind(std::move(destination), source.path, std::move(options));
}

bool IsBelow(std::string_view path, std::string_view directory) {
  return path.size() > directory.size() && path.substr(0, directory.size()) == directory &&
         path[directory.size()] == '/';
}

// Whether a mount at `requested` takes the place of the default one at `standard`: the same place,
// or all of /dev or /sys, in which our own parts must not be mounted over the host's.
bool Replaces(std::string_view requested, std::string_view standard) {
  return requested == standard || ((requested == "/dev" || requested == "/sys" ||
                                    IsBelow(requested, "/dev") || IsBelow(requested, "/sys")) &&
                                   IsBelow(standard, requested));
}

// Leaves out what a later mount of the same kind (`requested`) replaces.
void DropReplaced(const std::vector<MountEntry>& requested, std::vector<MountEntry>* standard) {
  std::erase_if(*standard, [&](const MountEntry& mount) {
    return std::any_of(requested.begin(), requested.end(), [&](const MountEntry& other) {
      return Replaces(other.destination, mount.destination);
    });
  });
}

// Of mounts with one destination the last stays, where it is.
void DropRepeats(std::vector<MountEntry>* mounts) {
  for (size_t i = 0; i < mounts->size(); ++i) {
    const bool repeated = std::any_of(
        mounts->begin() + static_cast<ptrdiff_t>(i) + 1, mounts->end(),
        [&](const MountEntry& later) { return later.destination == (*mounts)[i].destination; });
    if (repeated) {
      mounts->erase(mounts->begin() + static_cast<ptrdiff_t>(i--));
    }
  }
}

ptrdiff_t Depth(const MountEntry& mount) {
  return std::count(mount.destination.begin(), mount.destination.end(), '/');
}

absl::Status CheckImageVolume(const cri::Mount& mount) {
  if (!mount.host_path().empty()) {
    return absl::InvalidArgumentError("host_path: an image volume has none");
  }
  if (!mount.readonly()) {
    return absl::InvalidArgumentError("readonly: an image volume cannot be written to");
  }
  if (mount.propagation() != cri::PROPAGATION_PRIVATE) {
    return absl::InvalidArgumentError("propagation: an image volume has only the private one");
  }
  const std::string& path = mount.image_sub_path();
  if (path.substr(0, 1) == "/" || path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        base::StrCat("image_sub_path: \"", path, "\" is not a relative path"));
  }
  if (base::StrCat("/", path, "/").find("/../") != std::string::npos) {
    return absl::InvalidArgumentError(base::StrCat("image_sub_path: \"", path, "\" has a \"..\""));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ContainerPath(std::string_view path) {
  if (path.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("container_path: it has a NUL");
  }
  std::vector<std::string_view> names;
  while (!path.empty()) {
    const size_t end = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    if (name == "..") {
      if (!names.empty()) {
        names.pop_back();
      }
    } else if (!name.empty() && name != ".") {
      names.push_back(name);
    }
  }
  if (names.empty()) {
    return absl::InvalidArgumentError("container_path: empty or the root itself");
  }
  std::string result;
  for (const std::string_view name : names) {
    result += base::StrCat("/", name);
  }
  return result;
}

absl::Status CheckMounts(const cri::ContainerConfig& config) {
  for (int i = 0; i < config.mounts_size(); ++i) {
    const cri::Mount& mount = config.mounts(i);
    const std::string field = base::StrCat("mounts[", i, "].");
    const absl::Status path = ContainerPath(mount.container_path()).status();
    if (!path.ok()) {
      return absl::Status(path.code(), base::StrCat(field, base::ToStd(path.message())));
    }
    if (const absl::Status image =
            IsImageVolume(mount) ? CheckImageVolume(mount) : absl::OkStatus();
        !image.ok()) {
      return absl::Status(image.code(),
                          base::StrCat(kImageVolumeFailed, field, base::ToStd(image.message())));
    }
    if (!IsImageVolume(mount) && !mount.image_sub_path().empty()) {
      return absl::InvalidArgumentError(
          base::StrCat(field, "image_sub_path: the mount names no image"));
    }
    if (!cri::MountPropagation_IsValid(mount.propagation())) {
      return absl::InvalidArgumentError(base::StrCat(field, "propagation: unknown value"));
    }
    if (mount.recursive_read_only() &&
        (!mount.readonly() || mount.propagation() != cri::PROPAGATION_PRIVATE)) {
      return absl::InvalidArgumentError(
          base::StrCat(field, "recursive_read_only: needs readonly and private propagation"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<OrderedJson> MountsPart(const SpecInput& input) {
  RETURN_IF_ERROR(CheckMounts(input.container));
  ASSIGN_OR_RETURN(const NamespaceModes modes, ContainerNamespaces(input));
  std::vector<MountEntry> requested;
  for (int i = 0; i < input.container.mounts_size(); ++i) {
    ASSIGN_OR_RETURN(MountEntry mount, RequestedMount(input, i));
    requested.push_back(std::move(mount));
  }
  DropRepeats(&requested);
  std::vector<MountEntry> mounts = KernelMounts(input, modes);
  DropReplaced(requested, &mounts);
  std::vector<MountEntry> files = PodFileMounts(input);
  DropReplaced(requested, &files);
  std::vector<MountEntry> extra = ExtraMounts(input);
  DropReplaced(requested, &extra);
  // Parents first; the pod's files among them, so that a volume on /etc does not hide them.
  std::multimap<ptrdiff_t, MountEntry> by_depth;  // Keeps the order of equals.
  for (std::vector<MountEntry>* list : {&files, &extra, &requested}) {
    for (MountEntry& mount : *list) {
      by_depth.emplace(Depth(mount), std::move(mount));
    }
  }
  for (auto& [depth, mount] : by_depth) {
    mounts.push_back(std::move(mount));
  }
  OrderedJson part = OrderedJson::array();
  for (MountEntry& mount : mounts) {
    part.push_back({{"destination", std::move(mount.destination)},
                    {"type", std::move(mount.type)},
                    {"source", std::move(mount.source)},
                    {"options", std::move(mount.options)}});
  }
  return part;
}

}  // namespace runtimeservice
