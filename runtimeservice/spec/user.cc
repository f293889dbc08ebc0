#include "runtimeservice/spec/user.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxFileBytes = 4 << 20;
constexpr size_t kMaxGroups = 65536;  // NGROUPS_MAX.
constexpr std::string_view kField = "linux.security_context.";

absl::Status Invalid(std::string_view field, std::string_view why) {
  return absl::InvalidArgumentError(base::StrCat(field, ": ", why));
}

// A uid or gid; the last number stands for "none" in system calls.
std::optional<uint32_t> ParseId(std::string_view text) {
  uint32_t id = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, id);
  if (text.empty() || error != std::errc() || rest != end || id == UINT32_MAX) {
    return std::nullopt;
  }
  return id;
}

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

absl::StatusOr<uint32_t> RequestedId(int64_t value, std::string_view field) {
  if (value < 0 || value >= int64_t{UINT32_MAX}) {
    return Invalid(base::StrCat(kField, field), base::StrCat(value, " is no id"));
  }
  return static_cast<uint32_t>(value);
}

// Cuts the text before the next `separator` off the front of `*rest`.
std::string_view Cut(std::string_view* rest, char separator) {
  const size_t end = std::min(rest->find(separator), rest->size());
  const std::string_view piece = rest->substr(0, end);
  rest->remove_prefix(std::min(end + 1, rest->size()));
  return piece;
}

std::optional<PasswdEntry> ParsePasswdLine(std::string_view line) {
  const std::string_view name = Cut(&line, ':');
  Cut(&line, ':');
  const std::optional<uint32_t> uid = ParseId(Cut(&line, ':'));
  const std::optional<uint32_t> gid = ParseId(Cut(&line, ':'));
  if (name.empty() || name.front() == '#' || !uid.has_value() || !gid.has_value()) {
    return std::nullopt;
  }
  return PasswdEntry{std::string(name), *uid, *gid};
}

struct GroupLine {
  std::string_view name;
  uint32_t gid = 0;
  std::string_view members;
};

std::optional<GroupLine> ParseGroupLine(std::string_view line) {
  const std::string_view name = Cut(&line, ':');
  Cut(&line, ':');
  const std::optional<uint32_t> gid = ParseId(Cut(&line, ':'));
  if (name.empty() || name.front() == '#' || !gid.has_value()) {
    return std::nullopt;
  }
  return GroupLine{name, *gid, line};
}

template <typename Matches>
std::optional<PasswdEntry> FindPasswd(std::string_view passwd, const Matches& matches) {
  while (!passwd.empty()) {
    std::optional<PasswdEntry> entry = ParsePasswdLine(Cut(&passwd, '\n'));
    if (entry.has_value() && matches(*entry)) {
      return entry;
    }
  }
  return std::nullopt;
}

// The content of a file of the image, empty if there is none. The descriptor is opened for reading
// only once it is known to be a regular file: opening a pipe or a device has effects.
absl::StatusOr<std::string> ReadImageFile(int rootfs, const std::string& path) {
  absl::StatusOr<base::UniqueFd> file =
      base::OpenBeneath(rootfs, path, O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT);
  if (absl::IsNotFound(file.status())) {
    return std::string();
  }
  RETURN_IF_ERROR(base::Annotate(file.status(), "in the image"));
  struct stat status = {};
  if (fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return absl::FailedPreconditionError(base::StrCat(path, " in the image is not a regular file"));
  }
  ASSIGN_OR_RETURN(
      const base::UniqueFd reader,
      base::Open(base::StrCat("/proc/self/fd/", file->get()), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  return base::ReadFd(reader.get(), base::StrCat(path, " in the image"), kMaxFileBytes);
}

// The image's files, each read when first asked for.
class ImageAccounts {
 public:
  explicit ImageAccounts(int rootfs) : rootfs_(rootfs) {}

  absl::StatusOr<std::string_view> passwd() { return Content("etc/passwd", &passwd_); }
  absl::StatusOr<std::string_view> group() { return Content("etc/group", &group_); }

 private:
  absl::StatusOr<std::string_view> Content(const char* path, std::optional<std::string>* content) {
    if (!content->has_value()) {
      ASSIGN_OR_RETURN(*content, ReadImageFile(rootfs_, path));
    }
    return std::string_view(**content);
  }

  const int rootfs_;
  std::optional<std::string> passwd_;
  std::optional<std::string> group_;
};

// Who a process is, before supplementary groups.
struct Identity {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string name;  // In the image's passwd; empty if it has none.
};

absl::StatusOr<Identity> ByUid(ImageAccounts* accounts, uint32_t uid) {
  ASSIGN_OR_RETURN(const std::string_view passwd, accounts->passwd());
  const std::optional<PasswdEntry> entry = FindPasswdUid(passwd, uid);
  return entry.has_value() ? Identity{uid, entry->gid, entry->name} : Identity{uid, 0, ""};
}

absl::StatusOr<Identity> ByName(ImageAccounts* accounts, std::string_view name,
                                std::string_view field) {
  ASSIGN_OR_RETURN(const std::string_view passwd, accounts->passwd());
  const std::optional<PasswdEntry> entry = FindPasswdName(passwd, name);
  if (!entry.has_value()) {
    return Invalid(field, base::StrCat("no user \"", name, "\" in the image's /etc/passwd"));
  }
  return Identity{entry->uid, entry->gid, entry->name};
}

// Digits are always a number, never a name: the kubelet judged runAsNonRoot by that.
absl::StatusOr<Identity> ByImageUser(ImageAccounts* accounts, std::string_view image_user) {
  constexpr std::string_view kImageField = "the image's User";
  std::string_view group = image_user;
  const std::string_view user = Cut(&group, ':');
  Identity identity;
  if (user.empty() || IsNumber(user)) {
    const std::optional<uint32_t> uid = user.empty() ? 0 : ParseId(user);
    if (!uid.has_value()) {
      return Invalid(kImageField, base::StrCat("\"", user, "\" is no id"));
    }
    ASSIGN_OR_RETURN(identity, ByUid(accounts, *uid));
  } else {
    ASSIGN_OR_RETURN(identity, ByName(accounts, user, kImageField));
  }
  if (group.empty()) {
    return identity;
  }
  std::optional<uint32_t> gid;
  if (IsNumber(group)) {
    gid = ParseId(group);
  } else {
    ASSIGN_OR_RETURN(const std::string_view groups, accounts->group());
    gid = FindGroup(groups, group);
  }
  if (!gid.has_value()) {
    return Invalid(kImageField, base::StrCat("no group \"", group, "\" in the image's /etc/group"));
  }
  identity.gid = *gid;
  return identity;
}

absl::StatusOr<Identity> PrimaryIdentity(const cri::LinuxContainerSecurityContext& security,
                                         std::string_view image_user, ImageAccounts* accounts) {
  Identity identity;
  if (security.has_run_as_user()) {
    ASSIGN_OR_RETURN(const uint32_t uid,
                     RequestedId(security.run_as_user().value(), "run_as_user"));
    ASSIGN_OR_RETURN(identity, ByUid(accounts, uid));
  } else if (!security.run_as_username().empty()) {
    ASSIGN_OR_RETURN(identity, ByName(accounts, security.run_as_username(),
                                      base::StrCat(kField, "run_as_username")));
  } else {
    ASSIGN_OR_RETURN(identity, ByImageUser(accounts, image_user));
  }
  if (security.has_run_as_group()) {
    ASSIGN_OR_RETURN(identity.gid, RequestedId(security.run_as_group().value(), "run_as_group"));
  }
  return identity;
}

template <typename SecurityContext>
absl::Status CheckIds(const SecurityContext& security, bool has_user) {
  if (security.has_run_as_user()) {
    RETURN_IF_ERROR(RequestedId(security.run_as_user().value(), "run_as_user").status());
  }
  if (security.has_run_as_group()) {
    if (!has_user) {
      return Invalid(base::StrCat(kField, "run_as_group"), "needs a user beside it");
    }
    RETURN_IF_ERROR(RequestedId(security.run_as_group().value(), "run_as_group").status());
  }
  for (int i = 0; i < security.supplemental_groups_size(); ++i) {
    RETURN_IF_ERROR(
        RequestedId(security.supplemental_groups(i), base::StrCat("supplemental_groups[", i, "]"))
            .status());
  }
  return cri::SupplementalGroupsPolicy_IsValid(security.supplemental_groups_policy())
             ? absl::OkStatus()
             : Invalid(base::StrCat(kField, "supplemental_groups_policy"), "unknown value");
}

}  // namespace

absl::Status CheckUser(const cri::LinuxContainerSecurityContext& security) {
  return CheckIds(security, security.has_run_as_user() || !security.run_as_username().empty());
}

absl::Status CheckUser(const cri::LinuxSandboxSecurityContext& security) {
  return CheckIds(security, security.has_run_as_user());
}

std::optional<PasswdEntry> FindPasswdName(std::string_view passwd, std::string_view name) {
  return FindPasswd(passwd, [name](const PasswdEntry& entry) { return entry.name == name; });
}

std::optional<PasswdEntry> FindPasswdUid(std::string_view passwd, uint32_t uid) {
  return FindPasswd(passwd, [uid](const PasswdEntry& entry) { return entry.uid == uid; });
}

std::optional<uint32_t> FindGroup(std::string_view group, std::string_view name) {
  while (!group.empty()) {
    const std::optional<GroupLine> line = ParseGroupLine(Cut(&group, '\n'));
    if (line.has_value() && line->name == name) {
      return line->gid;
    }
  }
  return std::nullopt;
}

std::vector<uint32_t> GroupsOfMember(std::string_view group, std::string_view user, size_t limit) {
  std::vector<uint32_t> gids;
  while (!group.empty() && gids.size() < limit) {
    std::optional<GroupLine> line = ParseGroupLine(Cut(&group, '\n'));
    while (line.has_value() && !line->members.empty()) {
      if (Cut(&line->members, ',') == user) {
        gids.push_back(line->gid);
        break;
      }
    }
  }
  return gids;
}

cri::ContainerUser ProcessUser::ToCri() const {
  cri::ContainerUser user;
  user.mutable_linux()->set_uid(uid);
  user.mutable_linux()->set_gid(gid);
  for (const uint32_t group : groups) {
    user.mutable_linux()->add_supplemental_groups(group);
  }
  return user;
}

absl::StatusOr<ProcessUser> ResolveUser(const cri::LinuxContainerSecurityContext& security,
                                        std::string_view image_user, const std::string& rootfs) {
  RETURN_IF_ERROR(CheckUser(security));
  ASSIGN_OR_RETURN(const base::UniqueFd root, base::Open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC));
  ImageAccounts accounts(root.get());
  ASSIGN_OR_RETURN(const Identity identity, PrimaryIdentity(security, image_user, &accounts));
  ProcessUser user{identity.uid, identity.gid, {identity.gid}};
  for (int i = 0; i < security.supplemental_groups_size(); ++i) {
    ASSIGN_OR_RETURN(const uint32_t gid, RequestedId(security.supplemental_groups(i),
                                                     base::StrCat("supplemental_groups[", i, "]")));
    user.groups.push_back(gid);
  }
  if (security.supplemental_groups_policy() == cri::Merge && !identity.name.empty()) {
    ASSIGN_OR_RETURN(const std::string_view group, accounts.group());
    const std::vector<uint32_t> gids = GroupsOfMember(group, identity.name, kMaxGroups);
    user.groups.insert(user.groups.end(), gids.begin(), gids.end());
  }
  std::sort(user.groups.begin(), user.groups.end());
  user.groups.erase(std::unique(user.groups.begin(), user.groups.end()), user.groups.end());
  if (user.groups.size() > kMaxGroups) {
    return Invalid(base::StrCat(kField, "supplemental_groups"),
                   "more groups than a process can have");
  }
  return user;
}

}  // namespace runtimeservice
