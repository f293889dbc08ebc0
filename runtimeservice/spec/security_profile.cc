#include "runtimeservice/spec/security_profile.h"

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using cri::SecurityProfile;

constexpr std::string_view kContext = "linux.security_context.";
constexpr std::string_view kLocalhost = "localhost/";

absl::Status Invalid(std::string_view field, std::string_view why) {
  return absl::InvalidArgumentError(base::StrCat(field, ": ", why));
}

absl::StatusOr<RequestedProfile> ParseMessage(const SecurityProfile& message,
                                              const std::string& field) {
  if (!SecurityProfile::ProfileType_IsValid(message.profile_type())) {
    return Invalid(field + ".profile_type", "unknown value");
  }
  RequestedProfile profile{.given = true, .type = message.profile_type()};
  if (profile.type == SecurityProfile::Localhost) {
    profile.field = field + ".localhost_ref";
    profile.reference = message.localhost_ref();
    if (profile.reference.empty()) {
      return Invalid(profile.field, "no profile named");
    }
  }
  return profile;
}

absl::StatusOr<RequestedProfile> ParseWord(std::string_view word, std::string field) {
  if (word == "runtime/default" || word == "docker/default") {
    return RequestedProfile{.given = true, .type = SecurityProfile::RuntimeDefault};
  }
  if (word == "unconfined") {
    return RequestedProfile{.given = true, .type = SecurityProfile::Unconfined};
  }
  if (word.substr(0, kLocalhost.size()) != kLocalhost || word.size() == kLocalhost.size()) {
    return Invalid(
        field, base::StrCat("\"", word, "\" is none of runtime/default, unconfined, localhost/…"));
  }
  return RequestedProfile{.given = true,
                          .type = SecurityProfile::Localhost,
                          .reference = std::string(word.substr(kLocalhost.size())),
                          .field = std::move(field)};
}

}  // namespace

absl::StatusOr<RequestedProfile> ParseProfile(const SecurityProfile* message,
                                              std::string_view field, std::string_view deprecated,
                                              std::string_view deprecated_field) {
  if (message != nullptr) {
    return ParseMessage(*message, base::StrCat(kContext, field));
  }
  return deprecated.empty() ? RequestedProfile()
                            : ParseWord(deprecated, base::StrCat(kContext, deprecated_field));
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
absl::StatusOr<RequestedProfile> RequestedSeccomp(
    const cri::LinuxContainerSecurityContext& security) {
  return ParseProfile(security.has_seccomp() ? &security.seccomp() : nullptr, "seccomp",
                      security.seccomp_profile_path(), "seccomp_profile_path");
}

absl::StatusOr<RequestedProfile> RequestedAppArmor(
    const cri::LinuxContainerSecurityContext& security) {
  return ParseProfile(security.has_apparmor() ? &security.apparmor() : nullptr, "apparmor",
                      security.apparmor_profile(), "apparmor_profile");
}

void CopyPodProfiles(const cri::LinuxSandboxSecurityContext& pod,
                     cri::LinuxContainerSecurityContext* container) {
  if (pod.has_seccomp()) {
    *container->mutable_seccomp() = pod.seccomp();
  }
  container->set_seccomp_profile_path(pod.seccomp_profile_path());
  if (pod.has_apparmor()) {
    *container->mutable_apparmor() = pod.apparmor();
  }
}
#pragma GCC diagnostic pop

absl::Status CheckPodProfiles(const cri::LinuxSandboxSecurityContext& pod) {
  cri::LinuxContainerSecurityContext container;
  CopyPodProfiles(pod, &container);
  RETURN_IF_ERROR(RequestedSeccomp(container).status());
  return RequestedAppArmor(container).status();
}

}  // namespace runtimeservice
