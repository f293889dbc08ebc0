// Whom a container runs as: the request and the image's User, looked up in the image's own
// /etc/passwd and /etc/group.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/cri.h"

namespace runtimeservice {

struct ProcessUser {
  uint32_t uid = 0;
  uint32_t gid = 0;
  // Ascending, without repeats, the primary group among them: a process that gives up its primary
  // group must not thereby reach what that group is denied.
  std::vector<uint32_t> groups;

  cri::ContainerUser ToCri() const;
};

// What of the request's users and groups needs no image to be judged: numbers out of range, a group
// without a user, an unknown policy. INVALID_ARGUMENT, naming the field. Pure.
absl::Status CheckUser(const cri::LinuxContainerSecurityContext& security);
absl::Status CheckUser(const cri::LinuxSandboxSecurityContext& security);

// The user of a container. `rootfs` is its mounted root; /etc/passwd and /etc/group are looked up
// as a process chrooted there would, must be regular files of at most 4 MiB, and may be absent.
// Order: run_as_user, run_as_username, `image_user` ("user[:group]", each a name or a number),
// root. The group: run_as_group, that of `image_user`, of /etc/passwd, 0. INVALID_ARGUMENT, naming
// the field, for a group without a user, an unknown name or a number out of range. Blocks on the
// rootfs.
absl::StatusOr<ProcessUser> ResolveUser(const cri::LinuxContainerSecurityContext& security,
                                        std::string_view image_user, const std::string& rootfs);

// One line of passwd(5), as far as it matters here.
struct PasswdEntry {
  std::string name;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

// The first matching line of a passwd(5) or group(5) text. Lines that make no sense are passed
// over.
std::optional<PasswdEntry> FindPasswdName(std::string_view passwd, std::string_view name);
std::optional<PasswdEntry> FindPasswdUid(std::string_view passwd, uint32_t uid);
std::optional<uint32_t> FindGroup(std::string_view group, std::string_view name);

// The groups that list `user` as a member, in the file's order, at most `limit`.
std::vector<uint32_t> GroupsOfMember(std::string_view group, std::string_view user, size_t limit);

}  // namespace runtimeservice
