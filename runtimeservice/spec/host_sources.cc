#include "runtimeservice/spec/host_sources.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/spec_parts.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxMountinfoBytes = 64 << 20;

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

// Whether `path` is one of `paths`, whatever slashes and dots it is written with.
bool IsOneOf(const std::string& path, const std::vector<std::string>& paths) {
  const absl::StatusOr<std::string> plain = ContainerPath(path);
  return plain.ok() && std::any_of(paths.begin(), paths.end(), [&](const std::string& other) {
           return other == path || ContainerPath(other).value_or("") == *plain;
         });
}

absl::StatusOr<MountSource> ResolveMountSource(const cri::Mount& mount,
                                               const std::vector<std::string>& reject_absent) {
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
    if (IsOneOf(path, reject_absent)) {
      return absl::FailedPreconditionError(
          base::StrCat("host_path: ", path, " is missing and must not be made as a folder"));
    }
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

}  // namespace

absl::StatusOr<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) {
    return base::ErrnoStatus(errno, path);
  }
  return std::string(real.get());
}

absl::StatusOr<std::vector<MountSource>> ResolveMountSources(
    const cri::ContainerConfig& config, const std::vector<std::string>& reject_absent,
    const BeforePath& before) {
  RETURN_IF_ERROR(CheckMounts(config));
  std::vector<MountSource> sources;
  for (int i = 0; i < config.mounts_size(); ++i) {
    if (before) {
      RETURN_IF_ERROR(
          before(base::StrCat("mounts[", i, "].host_path"), config.mounts(i).host_path()));
    }
    absl::StatusOr<MountSource> source = ResolveMountSource(config.mounts(i), reject_absent);
    if (!source.ok()) {
      return absl::Status(source.status().code(),
                          base::StrCat("mounts[", i, "].", base::ToStd(source.status().message())));
    }
    sources.push_back(*std::move(source));
  }
  return sources;
}

}  // namespace runtimeservice
