// AppArmor: the profile of containers that name none, and which profile a container runs under
// (apparmor.d(5), apparmor_parser(8)).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/launcher.h"
#include "base/mutex.h"
#include "proto/cri.h"

namespace runtimeservice {

// The profile that crisp generates; any other one of the configuration is the node's own.
inline constexpr std::string_view kAppArmorDefault = "crisp-default";
// In the configuration's place of a name: RuntimeDefault has no profile.
inline constexpr std::string_view kAppArmorUnconfined = "unconfined";

// Where AppArmor is found. Tests have files of their own.
struct AppArmorHost {
  bool enabled = false;  // HostFacts::apparmor.
  std::string loaded_file = "/sys/kernel/security/apparmor/profiles";
  std::vector<std::string> parsers = {"/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"};
  // The kernel's features the text was written for; without the file the parser's default counts.
  std::string abi_file = "/etc/apparmor.d/abi/3.0";
};

// The source of the profile `name`, for apparmor_parser; `with_abi`: it may name abi/3.0. Denied
// are mounts, writes to /proc outside the directories of processes, writes to /sys outside the
// cgroup tree, and reading what tells of firmware, security modules and kernel memory. Signals and
// ptrace stay among processes of the profile; signals also come from outside of any profile (the
// daemon) and from the profiles that distributions give OCI runtimes. Pure.
std::string AppArmorProfileText(std::string_view name, bool with_abi);

// Whether `loaded`, the kernel's list with a line "NAME (MODE)" for each, has the profile `name`.
bool AppArmorListHas(std::string_view loaded, std::string_view name);

// Thread-safe. The kernel is asked each time: profiles come and go.
class AppArmorProfiles {
 public:
  // `default_profile`: of RuntimeDefault, from the configuration. `launcher` must outlive this.
  AppArmorProfiles(AppArmorHost host, std::string default_profile, const base::Launcher& launcher);

  // Loads the default profile if it is ours and not there. OK without AppArmor. The error says what
  // containers of RuntimeDefault will meet; it does not concern the others, and is repeated from
  // memory for 10 s. Blocks, at most 30 s for each caller at a time.
  absl::Status LoadDefault(const base::Context& ctx);

  // The name of the profile for a container; empty for none. A container that asks for nothing gets
  // the default one, too; ours is loaded again (LoadDefault) when it is gone. Privileged ones get
  // only a profile they name. Without AppArmor a named profile is refused and the rest has none;
  // without apparmor_parser that holds for those that ask for nothing only. INVALID_ARGUMENT for a
  // malformed request, FAILED_PRECONDITION for a profile that is not loaded; both name the field.
  // Call it before anything is made.
  absl::StatusOr<std::string> Get(const cri::LinuxContainerSecurityContext& security);

  bool enabled() const { return host_.enabled; }
  // Whether the default profile was there when last looked for. From memory.
  absl::Status DefaultState() const;

 private:
  absl::StatusOr<bool> IsLoaded(std::string_view name) const;
  absl::Status Load(const base::Context& ctx);
  absl::StatusOr<std::string> Default(bool asked_for);
  absl::Status Remember(absl::Status state);

  const AppArmorHost host_;
  const std::string default_;
  const base::Launcher& launcher_;
  const std::string parser_;  // Empty: not installed.
  base::Mutex load_mutex_;    // Held while a profile is being loaded; before mutex_.
  absl::Time next_load_ ABSL_GUARDED_BY(load_mutex_) = absl::InfinitePast();
  mutable base::Mutex mutex_;
  absl::Status state_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace runtimeservice
