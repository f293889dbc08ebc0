#include "runtimeservice/spec/user_namespace.h"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using Mappings = google::protobuf::RepeatedPtrField<cri::IDMapping>;

constexpr std::string_view kField = ".namespace_options.userns_options";

base::IdRange ToRange(const cri::IDMapping& mapping) {
  return {
      .inside = mapping.container_id(), .outside = mapping.host_id(), .length = mapping.length()};
}

// One range, which gives id 0 a place and ends below the largest number, which is no id.
absl::Status CheckRange(const Mappings& mappings, std::string_view field) {
  if (mappings.size() != 1) {
    return absl::InvalidArgumentError(base::StrCat(
        field, ": a pod's user namespace has exactly one mapping, not ", mappings.size()));
  }
  const cri::IDMapping& mapping = mappings.Get(0);
  if (mapping.length() == 0) {
    return absl::InvalidArgumentError(base::StrCat(field, "[0].length is 0"));
  }
  if (mapping.container_id() != 0) {
    return absl::InvalidArgumentError(base::StrCat(
        field, "[0].container_id is ", mapping.container_id(), ", so that id 0 is not mapped"));
  }
  constexpr uint32_t kLast = std::numeric_limits<uint32_t>::max() - 1;
  if (mapping.host_id() > kLast || mapping.length() - 1 > kLast - mapping.host_id()) {
    return absl::InvalidArgumentError(
        base::StrCat(field, "[0]: host_id + length is more than ", kLast, " + 1"));
  }
  return absl::OkStatus();
}

bool Same(const Mappings& a, const base::IdRange& b) {
  return a.size() == 1 && ToRange(a.Get(0)) == b;
}

}  // namespace

absl::Status CheckUserNamespace(const cri::NamespaceOption& options, std::string_view where) {
  if (!options.has_userns_options()) {
    return absl::OkStatus();
  }
  const cri::UserNamespace& user = options.userns_options();
  const std::string field = base::StrCat(where, kField);
  if (user.mode() != cri::POD && user.mode() != cri::NODE) {
    return absl::InvalidArgumentError(base::StrCat(field, ".mode must be POD or NODE"));
  }
  if (user.mode() == cri::NODE) {
    return user.uids_size() == 0 && user.gids_size() == 0
               ? absl::OkStatus()
               : absl::InvalidArgumentError(
                     base::StrCat(field, ": mappings need mode POD, the pod's own user namespace"));
  }
  RETURN_IF_ERROR(CheckRange(user.uids(), field + ".uids"));
  return CheckRange(user.gids(), field + ".gids");
}

std::optional<base::IdMap> PodIdMap(const cri::PodSandboxConfig& pod) {
  const cri::NamespaceOption& options = pod.linux().security_context().namespace_options();
  const cri::UserNamespace& user = options.userns_options();
  if (!options.has_userns_options() || user.mode() != cri::POD || user.uids_size() != 1 ||
      user.gids_size() != 1) {
    return std::nullopt;
  }
  return base::IdMap{.uids = ToRange(user.uids(0)), .gids = ToRange(user.gids(0))};
}

absl::Status CheckContainerUserNamespace(const cri::PodSandboxConfig& pod,
                                         const cri::ContainerConfig& container) {
  const std::optional<base::IdMap> map = PodIdMap(pod);
  constexpr std::string_view kWhere = "config.linux.security_context";
  const cri::NamespaceOption& own = container.linux().security_context().namespace_options();
  if (own.has_userns_options()) {
    const cri::UserNamespace& user = own.userns_options();
    const bool same = map.has_value() ? user.mode() == cri::POD && Same(user.uids(), map->uids) &&
                                            Same(user.gids(), map->gids)
                                      : user.mode() == cri::NODE;
    if (!same) {
      return absl::InvalidArgumentError(
          base::StrCat(kWhere, kField, " is another one than the pod sandbox's"));
    }
  }
  if (map.has_value() && own.pid() == cri::NODE) {
    return absl::InvalidArgumentError(base::StrCat(
        kWhere, ".namespace_options.pid: NODE is not possible in a user namespace of the pod"));
  }
  for (int i = 0; i < container.mounts_size(); ++i) {
    const cri::Mount& mount = container.mounts(i);
    if (!WantsIdMap(mount)) {
      continue;
    }
    if (!map.has_value()) {
      return absl::InvalidArgumentError(
          base::StrCat("mounts[", i, "].uidMappings: the pod has no user namespace of its own"));
    }
    const bool uids = Same(mount.uidmappings(), map->uids);
    if (!uids || !Same(mount.gidmappings(), map->gids)) {
      return absl::InvalidArgumentError(base::StrCat("mounts[", i, "].", uids ? "gid" : "uid",
                                                     "Mappings: not those of the pod sandbox"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckMapped(const ProcessUser& user, const base::IdMap& map) {
  const auto unmapped = [](std::string_view what, uint32_t id) {
    return absl::InvalidArgumentError(
        base::StrCat("config.linux.security_context: ", what, " ", id,
                     ", of the request or the image, is not mapped in the pod's user namespace"));
  };
  if (!map.uids.Holds(user.uid)) {
    return unmapped("user", user.uid);
  }
  if (!map.gids.Holds(user.gid)) {
    return unmapped("group", user.gid);
  }
  for (const uint32_t group : user.groups) {
    if (!map.gids.Holds(group)) {
      return unmapped("group", group);
    }
  }
  return absl::OkStatus();
}

}  // namespace runtimeservice
