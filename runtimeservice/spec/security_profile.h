// Which seccomp or AppArmor profile a request asks for: the message, or the string that came before
// it and that callers still send, alone or beside the message.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "proto/cri.h"

namespace runtimeservice {

struct RequestedProfile {
  bool given = false;  // Neither message nor string: the kind's own rule decides what that means.
  cri::SecurityProfile::ProfileType type = cri::SecurityProfile::RuntimeDefault;
  std::string reference;  // Of Localhost, never empty: the file or the profile's name.
  std::string field;      // What an error about the reference has to name.
};

// `field`: the name of the message's field in a security context, such as "apparmor". The message
// counts before `deprecated`, which is "runtime/default", "unconfined" or "localhost/REFERENCE";
// `deprecated_field` names it. INVALID_ARGUMENT, naming the field, for an unknown type or word and
// for Localhost without a reference. Pure.
absl::StatusOr<RequestedProfile> ParseProfile(const cri::SecurityProfile* message,
                                              std::string_view field, std::string_view deprecated,
                                              std::string_view deprecated_field);

absl::StatusOr<RequestedProfile> RequestedSeccomp(
    const cri::LinuxContainerSecurityContext& security);
absl::StatusOr<RequestedProfile> RequestedAppArmor(
    const cri::LinuxContainerSecurityContext& security);

// Gives a container that stands for its pod the profiles of the pod.
void CopyPodProfiles(const cri::LinuxSandboxSecurityContext& pod,
                     cri::LinuxContainerSecurityContext* container);

// INVALID_ARGUMENT, naming the field, for a pod's profiles that no host could have. Pure.
absl::Status CheckPodProfiles(const cri::LinuxSandboxSecurityContext& pod);

}  // namespace runtimeservice
