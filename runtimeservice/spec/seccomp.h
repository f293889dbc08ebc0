// Seccomp: from the request's profile to the filter of one container (OCI runtime-spec, seccomp).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/json.h"
#include "base/mutex.h"
#include "proto/cri.h"
#include "runtimeservice/spec/capabilities.h"
#include "runtimeservice/spec/host_facts.h"

namespace runtimeservice {

// What the rules of a profile depend on.
struct SeccompTarget {
  Capabilities capabilities;  // The container's final bounding set.
  std::string architecture;   // Native, Go's name.
  KernelVersion kernel;
};

// A filter for one container; immutable.
struct SeccompFilter {
  base::OrderedJson profile;  // The value of linux.seccomp; null: no filter.
  std::string bpf_base64;     // The same, compiled; empty without a filter and for NOTIFY profiles.
};

// The RuntimeDefault profile for `target`. Pure.
base::OrderedJson DefaultSeccompProfile(const SeccompTarget& target);

// A profile in the containers' superset format (archMap, includes, excludes, errno names) as plain
// OCI for `target`. INVALID_ARGUMENT, with the rule, for anything malformed. Pure.
absl::StatusOr<base::OrderedJson> ExpandSeccompProfile(const base::Json& profile,
                                                       const SeccompTarget& target);

// The raw BPF program of an expanded profile; empty for one with NOTIFY, whose descriptor only the
// runtime can hand over. Syscalls that libseccomp does not know are left out, as runtimes do.
absl::StatusOr<std::string> CompileSeccomp(const base::OrderedJson& expanded);

// Gives containers their filters and remembers the compiled ones. Thread-safe.
class SeccompFilters {
 public:
  explicit SeccompFilters(const HostFacts& host);

  // Makes the profile in the file `path` the RuntimeDefault, as it is now; before the first Get.
  // INVALID_ARGUMENT, naming the path, when it is missing or malformed.
  absl::Status SetDefault(const std::string& path);

  // The filter for a container with the final bounding set `capabilities`; never null. An unset
  // profile is Unconfined (security_profile.h); privileged has none. A Localhost profile is read
  // anew each time. INVALID_ARGUMENT, naming the field, for a bad one: call it before anything is
  // made.
  absl::StatusOr<std::shared_ptr<const SeccompFilter>> Get(
      const cri::LinuxContainerSecurityContext& security, const Capabilities& capabilities);

 private:
  using Filter = std::shared_ptr<const SeccompFilter>;
  using Cache = std::map<std::string, Filter>;
  absl::StatusOr<Filter> Default(const Capabilities& capabilities);
  absl::StatusOr<Filter> Localhost(const std::string& path, const Capabilities& capabilities);
  absl::StatusOr<Filter> Expanded(const base::Json& profile, const Capabilities& capabilities);
  // Compiles `expanded`, unless it was before.
  absl::StatusOr<Filter> Compile(base::OrderedJson expanded);
  // What `cache` has under `key` from now on: `filter`, unless there was one.
  Filter Remember(Cache SeccompFilters::* cache, const std::string& key, Filter filter);

  const std::string architecture_;
  const KernelVersion kernel_;
  const Filter unconfined_;
  const Capabilities held_;
  std::string default_profile_;  // The file's text; empty: the built-in profile.
  base::Mutex mutex_;
  // By the expanded profile's text: the rules depend on capabilities.
  Cache compiled_ ABSL_GUARDED_BY(mutex_);
  // RuntimeDefault by capabilities, so that most containers skip the expansion.
  Cache defaults_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace runtimeservice
