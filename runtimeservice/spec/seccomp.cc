#include "runtimeservice/spec/seccomp.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxProfileBytes = 4 << 20;
// A node has a handful of profiles and capability sets; beyond that the memory matters more.
constexpr size_t kMaxRemembered = 64;
constexpr std::string_view kField = "linux.security_context.seccomp";

absl::Status Invalid(std::string_view field, const absl::Status& cause) {
  return absl::InvalidArgumentError(
      base::StrCat(kField, field, ": ", base::ToStd(cause.message())));
}

absl::StatusOr<base::Json> ReadProfile(const std::string& path) {
  // Not blocking: the path may lead to a pipe.
  ASSIGN_OR_RETURN(const base::UniqueFd file,
                   base::Open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status = {};
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(base::StrCat(path, ": not a regular file"));
  }
  ASSIGN_OR_RETURN(const std::string text, base::ReadFd(file.get(), path, kMaxProfileBytes));
  absl::StatusOr<base::Json> profile = base::ParseJson(text);
  RETURN_IF_ERROR(base::Annotate(profile.status(), path));
  return profile;
}

}  // namespace

SeccompFilters::SeccompFilters(const HostFacts& host)
    : architecture_(host.architecture),
      kernel_(host.kernel),
      unconfined_(std::make_shared<const SeccompFilter>()) {}

absl::StatusOr<std::shared_ptr<const SeccompFilter>> SeccompFilters::Get(
    const cri::LinuxContainerSecurityContext& security, const Capabilities& capabilities) {
  if (!security.has_seccomp() || security.privileged()) {
    return unconfined_;
  }
  const cri::SecurityProfile& profile = security.seccomp();
  switch (profile.profile_type()) {
    case cri::SecurityProfile::Unconfined:
      return unconfined_;
    case cri::SecurityProfile::RuntimeDefault:
      return Default(capabilities);
    case cri::SecurityProfile::Localhost: {
      if (profile.localhost_ref().empty() || profile.localhost_ref().front() != '/') {
        return Invalid(".localhost_ref", absl::InvalidArgumentError("not an absolute path"));
      }
      absl::StatusOr<Filter> filter = Localhost(profile.localhost_ref(), capabilities);
      return filter.ok() ? filter : Invalid(".localhost_ref", filter.status());
    }
    default:
      return Invalid(".profile_type", absl::InvalidArgumentError("unknown value"));
  }
}

absl::StatusOr<SeccompFilters::Filter> SeccompFilters::Default(const Capabilities& capabilities) {
  std::string key;
  for (const std::string& name : capabilities) {
    key += name + " ";
  }
  {
    base::MutexLock lock(&mutex_);
    if (const auto found = defaults_.find(key); found != defaults_.end()) {
      return found->second;
    }
  }
  ASSIGN_OR_RETURN(Filter filter,
                   Compile(DefaultSeccompProfile({capabilities, architecture_, kernel_})));
  return Remember(&SeccompFilters::defaults_, key, std::move(filter));
}

absl::StatusOr<SeccompFilters::Filter> SeccompFilters::Localhost(const std::string& path,
                                                                 const Capabilities& capabilities) {
  ASSIGN_OR_RETURN(const base::Json profile, ReadProfile(path));
  absl::StatusOr<base::OrderedJson> expanded =
      ExpandSeccompProfile(profile, {capabilities, architecture_, kernel_});
  RETURN_IF_ERROR(base::Annotate(expanded.status(), path));
  return Compile(*std::move(expanded));
}

absl::StatusOr<SeccompFilters::Filter> SeccompFilters::Compile(base::OrderedJson expanded) {
  const std::string key = base::DumpJson(expanded);
  {
    base::MutexLock lock(&mutex_);
    if (const auto found = compiled_.find(key); found != compiled_.end()) {
      return found->second;
    }
  }
  // Two threads may compile the same; what both get is the first one remembered.
  ASSIGN_OR_RETURN(const std::string bpf, CompileSeccomp(expanded));
  auto filter = std::make_shared<SeccompFilter>();
  filter->profile = std::move(expanded);
  filter->bpf_base64 = absl::Base64Escape(bpf);
  return Remember(&SeccompFilters::compiled_, key, std::move(filter));
}

SeccompFilters::Filter SeccompFilters::Remember(Cache SeccompFilters::* cache,
                                                const std::string& key, Filter filter) {
  base::MutexLock lock(&mutex_);
  Cache& filters = this->*cache;
  if (filters.size() >= kMaxRemembered) {
    filters.clear();
  }
  return filters.emplace(key, std::move(filter)).first->second;
}

}  // namespace runtimeservice
