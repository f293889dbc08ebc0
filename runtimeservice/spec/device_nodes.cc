#include "runtimeservice/spec/device_nodes.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/spec_parts.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxDevices = 16384;
constexpr int kMaxDeviceDepth = 16;

bool IsAccess(std::string_view text) {
  return !text.empty() && text.find_first_not_of("rwm") == std::string_view::npos &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return std::count(text.begin(), text.end(), c) == 1; });
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
    return absl::InvalidArgumentError(base::StrCat("host_path: ", directory, ": too deep"));
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
      return absl::InvalidArgumentError(
          base::StrCat("host_path: ", directory, ": too many devices"));
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

// A privileged container sees the host's devices at their places: another one must not cover one.
absl::Status CheckPlace(const DeviceRequest& request) {
  struct stat status = {};
  if (request.container_path.empty() || request.container_path == request.host_path ||
      stat(request.container_path.c_str(), &status) != 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(base::StrCat("container_path: ", request.container_path,
                                                 " is on the host, whose devices a privileged "
                                                 "container has"));
}

void GiveTo(const cri::LinuxContainerSecurityContext& security, std::vector<DeviceNode>* devices) {
  for (DeviceNode& device : *devices) {
    if (security.run_as_user().value() > 0) {
      device.uid = static_cast<uint32_t>(security.run_as_user().value());
    }
    if (security.run_as_group().value() > 0) {
      device.gid = static_cast<uint32_t>(security.run_as_group().value());
    }
  }
}

}  // namespace

absl::StatusOr<DeviceRequest> ParseDeviceRequest(std::string_view text) {
  std::vector<std::string> parts = absl::StrSplit(base::ToAbsl(text), ':');
  DeviceRequest request;
  const bool shortened = parts.size() == 2 && IsAccess(parts[1]);
  request.host_path = parts[0];
  if (parts.size() > 1 && !shortened) {
    request.container_path = parts[1];
  }
  if (parts.size() == 3 || shortened) {
    request.access = parts.back();
  }
  const absl::StatusOr<std::string> place =
      ContainerPath(request.container_path.empty() ? request.host_path : request.container_path);
  if (parts.size() > 3 || request.host_path.empty() || request.host_path.front() != '/' ||
      !place.ok() || place->rfind("/dev/", 0) != 0 ||
      (parts.size() == 3 && !IsAccess(request.access))) {
    return absl::InvalidArgumentError(
        base::StrCat("want HOST[:CONTAINER][:PERMISSIONS] such as \"/dev/fuse:/dev/fuse:rwm\", "
                     "with CONTAINER in /dev, got \"",
                     text, "\""));
  }
  return request;
}

absl::StatusOr<std::vector<DeviceNode>> FindDevices(const DeviceRequest& request) {
  const std::string access = request.access.empty() ? "rwm" : request.access;
  if (!IsAccess(access)) {
    return absl::InvalidArgumentError(
        base::StrCat("permissions: \"", access, "\" is not made of r, w and m"));
  }
  const std::string& source = request.host_path;
  if (source.empty() || source.front() != '/' || source.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("host_path: not an absolute path");
  }
  absl::StatusOr<std::string> path =
      ContainerPath(request.container_path.empty() ? source : request.container_path);
  RETURN_IF_ERROR(path.status());
  struct stat status = {};
  if (stat(source.c_str(), &status) != 0) {
    return absl::InvalidArgumentError(
        base::ErrnoStatus(errno, base::StrCat("host_path: ", source)).message());
  }
  std::vector<DeviceNode> devices;
  if (S_ISDIR(status.st_mode)) {
    RETURN_IF_ERROR(AddDirectory(source, *path, access, 0, &devices));
    return devices;
  }
  std::optional<DeviceNode> node = ToDeviceNode(status);
  if (!node.has_value()) {
    return absl::InvalidArgumentError(base::StrCat("host_path: ", source, " is not a device"));
  }
  node->path = *std::move(path);
  node->access = access;
  devices.push_back(*std::move(node));
  return devices;
}

absl::StatusOr<std::vector<DeviceNode>> ResolveDevices(const cri::ContainerConfig& config,
                                                       HostDevices host_devices,
                                                       DeviceOwnership ownership) {
  const cri::LinuxContainerSecurityContext& security = config.linux().security_context();
  const bool with_host = host_devices == HostDevices::kIfPrivileged && security.privileged();
  std::vector<DeviceNode> devices;
  if (with_host) {
    RETURN_IF_ERROR(AddHostDevices(&devices));
  }
  for (int i = 0; i < config.devices_size(); ++i) {
    const cri::Device& device = config.devices(i);
    const DeviceRequest request = {device.host_path(), device.container_path(),
                                   device.permissions()};
    absl::StatusOr<std::vector<DeviceNode>> found = FindDevices(request);
    absl::Status status = found.status();
    if (status.ok() && with_host) {
      status = CheckPlace(request);
    }
    if (!status.ok()) {
      return absl::Status(status.code(),
                          base::StrCat("devices[", i, "].", base::ToStd(status.message())));
    }
    if (ownership == DeviceOwnership::kSecurityContext) {
      GiveTo(security, &*found);
    }
    devices.insert(devices.end(), found->begin(), found->end());
  }
  return devices;
}

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

}  // namespace runtimeservice
