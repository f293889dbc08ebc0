#include "runtimeservice/spec/apparmor.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/subprocess.h"
#include "runtimeservice/spec/security_profile.h"

namespace runtimeservice {
namespace {

constexpr absl::Duration kLoadTime = absl::Seconds(30);
constexpr absl::Duration kLoadPause = absl::Seconds(10);  // After a failure.
constexpr size_t kMaxList = 4 << 20;

// After the line that begins the profile; NAME stands for its name. A path in /proc never begins
// with "self": that is a link to the process's number.
constexpr std::string_view kRules = R"(  network,
  unix,
  capability,
  file,
  umount,

  signal (send, receive) peer=NAME,
  signal (receive) peer=unconfined,
  signal (receive) peer={crisp,crun,runc},
  ptrace (read, readby, trace, tracedby) peer=NAME,

  deny mount,

  deny /proc/* wkl,
  deny /proc/[^0-9]*/** wkl,
  deny /proc/{kcore,sysrq-trigger} rwklx,

  deny /sys/[^f]*/** wkl,
  deny /sys/f[^s]*/** wkl,
  deny /sys/fs/[^c]*/** wkl,
  deny /sys/fs/c[^g]*/** wkl,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/{,**} rwklx,
}
)";

std::string FirstProgram(const std::vector<std::string>& paths) {
  const auto found = std::find_if(paths.begin(), paths.end(), [](const std::string& path) {
    return access(path.c_str(), X_OK) == 0;
  });
  return found == paths.end() ? "" : *found;
}

absl::Status NotLoaded(std::string_view field, std::string_view name) {
  return absl::FailedPreconditionError(
      base::StrCat(field, ": the AppArmor profile \"", name, "\" is not loaded"));
}

}  // namespace

std::string AppArmorProfileText(std::string_view name, bool with_abi) {
  std::string text = with_abi ? "abi <abi/3.0>,\n" : "";
  text += base::StrCat("profile ", name, " flags=(attach_disconnected, mediate_deleted) {\n");
  std::string_view rules = kRules;
  constexpr std::string_view kName = "NAME";
  for (size_t at; (at = rules.find(kName)) != std::string_view::npos;) {
    text += base::StrCat(rules.substr(0, at), name);
    rules.remove_prefix(at + kName.size());
  }
  return text += rules;
}

bool AppArmorListHas(std::string_view loaded, std::string_view name) {
  while (!loaded.empty()) {
    const size_t end = std::min(loaded.find('\n'), loaded.size());
    const std::string_view line = loaded.substr(0, end);
    loaded.remove_prefix(std::min(end + 1, loaded.size()));
    if (!name.empty() && line.substr(0, line.rfind(" (")) == name) {
      return true;
    }
  }
  return false;
}

AppArmorProfiles::AppArmorProfiles(AppArmorHost host, std::string default_profile,
                                   const base::Launcher& launcher)
    : host_(std::move(host)),
      default_(std::move(default_profile)),
      launcher_(launcher),
      parser_(FirstProgram(host_.parsers)) {}

absl::StatusOr<bool> AppArmorProfiles::IsLoaded(std::string_view name) const {
  ASSIGN_OR_RETURN(const std::string loaded, base::ReadFile(host_.loaded_file, kMaxList));
  return AppArmorListHas(loaded, name);
}

absl::Status AppArmorProfiles::Load(const base::Context& ctx) {
  ASSIGN_OR_RETURN(const bool loaded, IsLoaded(default_));
  if (loaded) {
    return absl::OkStatus();
  }
  if (default_ != kAppArmorDefault) {
    return NotLoaded("apparmor_profile", default_);
  }
  if (parser_.empty()) {
    return absl::FailedPreconditionError(
        base::StrCat("apparmor_parser is not installed: the AppArmor profile \"", default_,
                     "\" cannot be loaded, and containers that ask for no profile have none"));
  }
  base::Command command;
  command.argv = {parser_, "--replace", "--skip-cache"};
  command.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"};
  absl::StatusOr<base::CommandResult> result =
      base::RunCommand(ctx.WithTimeout(kLoadTime), launcher_.Wrap(std::move(command)),
                       AppArmorProfileText(default_, base::Exists(host_.abi_file)));
  RETURN_IF_ERROR(base::Annotate(result.status(), "apparmor_parser"));
  if (result->exit.code != 0) {
    return absl::FailedPreconditionError(
        base::StrCat("apparmor_parser ends with ", result->exit.code, ": ", result->err));
  }
  return absl::OkStatus();
}

absl::Status AppArmorProfiles::LoadDefault(const base::Context& ctx) {
  if (!host_.enabled || default_ == kAppArmorUnconfined) {
    return absl::OkStatus();
  }
  base::MutexLock lock(&load_mutex_);
  if (absl::Now() < next_load_) {
    return DefaultState();
  }
  const absl::Status loaded = Remember(Load(ctx));
  next_load_ = loaded.ok() ? absl::InfinitePast() : absl::Now() + kLoadPause;
  return loaded;
}

absl::Status AppArmorProfiles::Remember(absl::Status state) {
  base::MutexLock lock(&mutex_);
  return state_ = std::move(state);
}

absl::Status AppArmorProfiles::DefaultState() const {
  base::MutexLock lock(&mutex_);
  return state_;
}

absl::StatusOr<std::string> AppArmorProfiles::Default(bool asked_for) {
  if (default_ == kAppArmorUnconfined) {
    return "";
  }
  ASSIGN_OR_RETURN(const bool loaded, IsLoaded(default_));
  if (loaded) {
    Remember(absl::OkStatus()).IgnoreError();
    return default_;
  }
  constexpr std::string_view kField = "linux.security_context.apparmor";
  if (default_ != kAppArmorDefault) {
    return Remember(NotLoaded(kField, default_));
  }
  if (!asked_for && parser_.empty()) {
    return "";
  }
  // A restart of apparmor.service and aa-remove-unknown(8) unload what has no file of the node's.
  const absl::Status again = LoadDefault(base::Context::Detached(kLoadTime));
  if (!again.ok()) {
    return absl::FailedPreconditionError(base::StrCat(kField, ": ", base::ToStd(again.message())));
  }
  return default_;
}

absl::StatusOr<std::string> AppArmorProfiles::Get(
    const cri::LinuxContainerSecurityContext& security) {
  ASSIGN_OR_RETURN(const RequestedProfile requested, RequestedAppArmor(security));
  if (requested.type == cri::SecurityProfile::Unconfined) {
    return "";
  }
  if (requested.type == cri::SecurityProfile::RuntimeDefault) {
    return host_.enabled && !security.privileged() ? Default(requested.given) : "";
  }
  if (!host_.enabled) {
    return absl::FailedPreconditionError(
        base::StrCat(requested.field, ": the host has no AppArmor"));
  }
  // Some callers leave the old string's prefix on the new field's name.
  constexpr std::string_view kPrefix = "localhost/";
  const bool prefixed = requested.reference.rfind(kPrefix, 0) == 0;
  std::string name = requested.reference.substr(prefixed ? kPrefix.size() : 0);
  ASSIGN_OR_RETURN(const bool loaded, IsLoaded(name));
  if (!loaded) {
    return NotLoaded(requested.field, name);
  }
  return name;
}

}  // namespace runtimeservice
