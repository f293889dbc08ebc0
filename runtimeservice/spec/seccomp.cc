#include "runtimeservice/spec/seccomp.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/security_profile.h"

namespace runtimeservice {
namespace {

constexpr size_t kMaxProfileBytes = 4 << 20;
// A node has a handful of profiles and capability sets; beyond that the memory matters more.
constexpr size_t kMaxRemembered = 64;

absl::StatusOr<std::string> ReadProfile(const std::string& path) {
  // Not blocking: the path may lead to a pipe.
  ASSIGN_OR_RETURN(const base::UniqueFd file,
                   base::Open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status = {};
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(base::StrCat(path, ": not a regular file"));
  }
  return base::ReadFd(file.get(), path, kMaxProfileBytes);
}

}  // namespace

SeccompFilters::SeccompFilters(const HostFacts& host)
    : architecture_(host.architecture),
      kernel_(host.kernel),
      unconfined_(std::make_shared<const SeccompFilter>()),
      held_(host.capabilities) {}

absl::Status SeccompFilters::SetDefault(const std::string& path) {
  const absl::StatusOr<Filter> filter = Localhost(path, held_);
  absl::StatusOr<std::string> text = filter.ok() ? ReadProfile(path) : filter.status();
  if (!text.ok()) {
    return absl::InvalidArgumentError(text.status().message());
  }
  default_profile_ = *std::move(text);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const SeccompFilter>> SeccompFilters::Get(
    const cri::LinuxContainerSecurityContext& security, const Capabilities& capabilities) {
  ASSIGN_OR_RETURN(const RequestedProfile requested, RequestedSeccomp(security));
  if (!requested.given || security.privileged() ||
      requested.type == cri::SecurityProfile::Unconfined) {
    return unconfined_;
  }
  if (requested.type == cri::SecurityProfile::RuntimeDefault) {
    return Default(capabilities);
  }
  if (requested.reference.front() != '/') {
    return absl::InvalidArgumentError(base::StrCat(requested.field, ": not an absolute path"));
  }
  absl::StatusOr<Filter> filter = Localhost(requested.reference, capabilities);
  return filter.ok() ? filter
                     : absl::InvalidArgumentError(base::StrCat(
                           requested.field, ": ", base::ToStd(filter.status().message())));
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
  absl::StatusOr<Filter> filter;
  if (default_profile_.empty()) {
    filter = Compile(DefaultSeccompProfile({capabilities, architecture_, kernel_}));
  } else {
    ASSIGN_OR_RETURN(const base::Json profile, base::ParseJson(default_profile_));
    filter = Expanded(profile, capabilities);
  }
  RETURN_IF_ERROR(filter.status());
  return Remember(&SeccompFilters::defaults_, key, *std::move(filter));
}

absl::StatusOr<SeccompFilters::Filter> SeccompFilters::Localhost(const std::string& path,
                                                                 const Capabilities& capabilities) {
  ASSIGN_OR_RETURN(const std::string text, ReadProfile(path));
  const absl::StatusOr<base::Json> profile = base::ParseJson(text);
  RETURN_IF_ERROR(base::Annotate(profile.status(), path));
  absl::StatusOr<Filter> filter = Expanded(*profile, capabilities);
  RETURN_IF_ERROR(base::Annotate(filter.status(), path));
  return filter;
}

absl::StatusOr<SeccompFilters::Filter> SeccompFilters::Expanded(const base::Json& profile,
                                                                const Capabilities& capabilities) {
  ASSIGN_OR_RETURN(base::OrderedJson expanded,
                   ExpandSeccompProfile(profile, {capabilities, architecture_, kernel_}));
  return Compile(std::move(expanded));
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
