#include "runtimeservice/spec/host_sources.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/spec_parts.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxMountinfoBytes = 64 << 20;
constexpr size_t kMaxDevices = 16384;
constexpr int kMaxDeviceDepth = 16;

absl::StatusOr<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) {
    return base::ErrnoStatus(errno, path);
  }
  return std::string(real.get());
}

// What mountinfo's optional fields say of the mount that holds a path.
struct Peers {
  bool shared = false;
  bool slave = false;
};

// The words of `line` before the "-", from the seventh on, are the optional fields (proc(5)).
Peers ParseOptionalFields(std::string_view line) {
  Peers peers;
  for (int word = 0; !line.empty(); ++word) {
    const size_t end = std::min(line.find(' '), line.size());
    const std::string_view field = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
    if (word >= 6 && field == "-") {
      break;
    }
    peers.shared = peers.shared || (word >= 6 && field.substr(0, 7) == "shared:");
    peers.slave = peers.slave || (word >= 6 && field.substr(0, 7) == "master:");
  }
  return peers;
}

absl::StatusOr<Peers> PeersOf(const std::string& path) {
  struct statx status = {};
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_MNT_ID, &status) !=
      0) {
    return base::ErrnoStatus(errno, path);
  }
  ASSIGN_OR_RETURN(const std::string mountinfo,
                   base::ReadFile("/proc/thread-self/mountinfo", kMaxMountinfoBytes));
  const std::string id = base::StrCat(status.stx_mnt_id, " ");
  for (size_t begin = 0; begin < mountinfo.size();) {
    const size_t end = std::min(mountinfo.find('\n', begin), mountinfo.size());
    const std::string_view line = std::string_view(mountinfo).substr(begin, end - begin);
    if (line.substr(0, id.size()) == id) {
      return ParseOptionalFields(line);
    }
    begin = end + 1;
  }
  return absl::FailedPreconditionError(base::StrCat("no mount holds ", path));
}

// A mount can hand events on only if the host's own can.
absl::Status CheckPropagation(const cri::Mount& mount, const std::string& source) {
  if (mount.propagation() == cri::PROPAGATION_PRIVATE) {
    return absl::OkStatus();
  }
  absl::StatusOr<Peers> found = PeersOf(source);
  RETURN_IF_ERROR(base::Annotate(found.status(), "propagation"));
  const Peers peers = *found;
  if (mount.propagation() == cri::PROPAGATION_BIDIRECTIONAL && !peers.shared) {
    return absl::FailedPreconditionError(
        base::StrCat("propagation: ", source, " is not on a shared mount"));
  }
  if (!peers.shared && !peers.slave) {
    return absl::FailedPreconditionError(
        base::StrCat("propagation: ", source, " is not on a shared or slave mount"));
  }
  return absl::OkStatus();
}

absl::StatusOr<MountSource> ResolveMountSource(const cri::Mount& mount) {
  if (IsImageVolume(mount)) {
    return MountSource();
  }
  const std::string& path = mount.host_path();
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        base::StrCat("host_path: \"", path, "\" is not an absolute path"));
  }
  absl::StatusOr<std::string> real = RealPath(path);
  if (absl::IsNotFound(real.status())) {
    RETURN_IF_ERROR(base::Annotate(base::MakeDirectories(path, 0755), "host_path"));
    real = RealPath(path);
  }
  RETURN_IF_ERROR(base::Annotate(real.status(), "host_path"));
  RETURN_IF_ERROR(CheckPropagation(mount, *real));
  MountSource source{.path = *std::move(real)};
  struct stat status = {};
  if (mount.recursive_read_only() && stat(source.path.c_str(), &status) == 0) {
    source.directory = S_ISDIR(status.st_mode);
  }
  return source;
}

std::optional<DeviceNode> ToDeviceNode(const struct stat& status) {
  if (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return std::nullopt;
  }
  DeviceNode node;
  node.type = S_ISBLK(status.st_mode) ? 'b' : 'c';
  node.major = major(status.st_rdev);
  node.minor = minor(status.st_rdev);
  node.mode = status.st_mode & 07777;
  node.uid = status.st_uid;
  node.gid = status.st_gid;
  return node;
}

// Every device in `directory` and below, as `path` in the container; symlinks are not followed.
absl::Status AddDirectory(const std::string& directory, const std::string& path,
                          const std::string& access, int depth, std::vector<DeviceNode>* devices) {
  if (depth > kMaxDeviceDepth) {
    return absl::InvalidArgumentError(base::StrCat(directory, ": too deep"));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory(directory));
  for (const std::string& name : names) {
    struct stat status = {};
    const std::string source = base::StrCat(directory, "/", name);
    if (lstat(source.c_str(), &status) != 0) {
      continue;  // Devices come and go.
    }
    if (S_ISDIR(status.st_mode)) {
      RETURN_IF_ERROR(
          AddDirectory(source, base::StrCat(path, "/", name), access, depth + 1, devices));
    } else if (std::optional<DeviceNode> node = ToDeviceNode(status); node.has_value()) {
      node->path = base::StrCat(path, "/", name);
      node->access = access;
      devices->push_back(*std::move(node));
    }
    if (devices->size() > kMaxDevices) {
      return absl::InvalidArgumentError(base::StrCat(directory, ": too many devices"));
    }
  }
  return absl::OkStatus();
}

// All of the host's but what the runtime makes itself and other file systems mounted in /dev.
absl::Status AddHostDevices(std::vector<DeviceNode>* devices) {
  constexpr std::string_view kSkipped[] = {"console", "fd",   "full",   "mqueue", "null",
                                           "ptmx",    "pts",  "random", "shm",    "tty",
                                           "urandom", "zero", ".lxc",   ".udev"};
  ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory("/dev"));
  for (const std::string& name : names) {
    struct stat status = {};
    const std::string path = "/dev/" + name;
    if (std::find(std::begin(kSkipped), std::end(kSkipped), name) != std::end(kSkipped) ||
        lstat(path.c_str(), &status) != 0) {
      continue;
    }
    if (S_ISDIR(status.st_mode)) {
      RETURN_IF_ERROR(AddDirectory(path, path, "rwm", 1, devices));
    } else if (std::optional<DeviceNode> node = ToDeviceNode(status); node.has_value()) {
      node->path = path;
      devices->push_back(*std::move(node));
    }
  }
  return absl::OkStatus();
}

absl::Status AddDevice(const cri::Device& device, std::vector<DeviceNode>* devices) {
  const std::string access = device.permissions().empty() ? "rwm" : device.permissions();
  if (access.find_first_not_of("rwm") != std::string::npos || access.size() > 3) {
    return absl::InvalidArgumentError(
        base::StrCat("permissions: \"", access, "\" is not made of r, w and m"));
  }
  if (device.host_path().empty() || device.host_path().front() != '/') {
    return absl::InvalidArgumentError("host_path: not an absolute path");
  }
  ASSIGN_OR_RETURN(const std::string path,
                   ContainerPath(device.container_path().empty() ? device.host_path()
                                                                 : device.container_path()));
  struct stat status = {};
  if (stat(device.host_path().c_str(), &status) != 0) {
    return absl::InvalidArgumentError(
        base::ErrnoStatus(errno, base::StrCat("host_path: ", device.host_path())).message());
  }
  if (S_ISDIR(status.st_mode)) {
    return AddDirectory(device.host_path(), path, access, 0, devices);
  }
  std::optional<DeviceNode> node = ToDeviceNode(status);
  if (!node.has_value()) {
    return absl::InvalidArgumentError(
        base::StrCat("host_path: ", device.host_path(), " is not a device"));
  }
  node->path = path;
  node->access = access;
  devices->push_back(*std::move(node));
  return absl::OkStatus();
}

// Of devices with one path the last stays.
std::vector<DeviceNode> WithoutRepeats(std::vector<DeviceNode> devices) {
  std::map<std::string, DeviceNode> by_path;
  for (DeviceNode& device : devices) {
    by_path.insert_or_assign(device.path, std::move(device));
  }
  std::vector<DeviceNode> result;
  for (auto& [path, device] : by_path) {
    result.push_back(std::move(device));
  }
  return result;
}

}  // namespace

absl::StatusOr<std::vector<MountSource>> ResolveMountSources(const cri::ContainerConfig& config) {
  RETURN_IF_ERROR(CheckMounts(config));
  std::vector<MountSource> sources;
  for (int i = 0; i < config.mounts_size(); ++i) {
    absl::StatusOr<MountSource> source = ResolveMountSource(config.mounts(i));
    if (!source.ok()) {
      return absl::Status(source.status().code(),
                          base::StrCat("mounts[", i, "].", base::ToStd(source.status().message())));
    }
    sources.push_back(*std::move(source));
  }
  return sources;
}

absl::StatusOr<std::vector<DeviceNode>> ResolveDevices(const cri::ContainerConfig& config,
                                                       bool host_devices) {
  std::vector<DeviceNode> devices;
  if (host_devices && config.linux().security_context().privileged()) {
    RETURN_IF_ERROR(AddHostDevices(&devices));
  }
  for (int i = 0; i < config.devices_size(); ++i) {
    const absl::Status status = AddDevice(config.devices(i), &devices);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          base::StrCat("devices[", i, "].", base::ToStd(status.message())));
    }
  }
  return WithoutRepeats(std::move(devices));
}

}  // namespace runtimeservice
