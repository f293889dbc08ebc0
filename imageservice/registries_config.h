// registries.conf, version 2: which servers are asked for a reference, and how
// (containers-registries.conf(5)).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageservice/reference.h"

namespace imageservice {

// One server to ask for an image.
struct Endpoint {
  Reference reference;    // The image's name there; its domain is the registry.
  bool insecure = false;  // Plain HTTP and unverified TLS are allowed.
  bool mirror = false;    // Not the registry's own location.

  // The host to connect to: docker.io is served by registry-1.docker.io.
  std::string host() const;
};

// One `[[registry.mirror]]`.
struct MirrorEntry {
  enum class PullFrom { kAll, kDigestOnly, kTagOnly };
  std::string location;
  bool insecure = false;
  PullFrom pull_from = PullFrom::kAll;
};

// One `[[registry]]`.
struct RegistryEntry {
  std::string prefix;    // Never empty.
  std::string location;  // Empty: no rewriting.
  bool insecure = false;
  bool blocked = false;
  std::vector<MirrorEntry> mirrors;
};

// The merged configuration. Immutable after loading, so shared freely between threads.
class RegistriesConfig {
 public:
  // What a node without configuration has: every name means what it says, short names docker.io.
  RegistriesConfig() = default;

  // Reads each path in turn: a file, or a directory whose `*.conf` files are read by name. Later
  // files win. Missing paths are skipped. INVALID_ARGUMENT names file and reason for contents that
  // make no sense.
  static absl::StatusOr<RegistriesConfig> Load(const std::vector<std::string>& paths);

  // Merges the text of one file over what is here. `name` is for messages.
  absl::Status Merge(std::string_view text, const std::string& name);

  // The names `text` may stand for, in the order to try. A short name is an alias, or is looked for
  // in each unqualified-search registry, or, when none is configured, means docker.io. With
  // short-name-mode "enforcing" several candidates are an INVALID_ARGUMENT error.
  absl::StatusOr<std::vector<Reference>> Candidates(std::string_view text) const;

  // The servers to ask for `reference`, mirrors first. `insecure_registries` are further hosts
  // ("host", "host:port", "*.domain" or a longer prefix) that may be spoken to in plain HTTP.
  // PERMISSION_DENIED when the registry is blocked.
  absl::StatusOr<std::vector<Endpoint>> Endpoints(
      const Reference& reference, const std::vector<std::string>& insecure_registries) const;

 private:
  enum class ShortNames { kPermissive, kEnforcing, kDisabled };
  friend class RegistriesFile;

  std::vector<std::string> search_;
  ShortNames short_names_ = ShortNames::kPermissive;
  std::map<std::string, std::string> aliases_;
  std::map<std::string, RegistryEntry> registries_;  // By prefix.
};

// How many bytes of `name` ("host/path:tag@digest") the registry prefix `prefix` covers; 0 for no
// match. A prefix ends at a border: before "/", ":" or "@", and never inside a host or before its
// port. "*.host" covers the host part of any sub-domain.
size_t MatchRegistryPrefix(std::string_view name, std::string_view prefix);

}  // namespace imageservice
