// registries.conf: which servers are asked for a reference, and how (containers-registries.conf(5),
// version 2; version 1 is understood).
#pragma once

#include <map>
#include <optional>
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
  // The request's credentials for the image's own registry may be shown here too.
  bool pass_credentials = false;

  // The host to connect to: docker.io is served by registry-1.docker.io.
  std::string host() const;
};

// One `[[registry.mirror]]`.
struct MirrorEntry {
  enum class PullFrom { kAll, kDigestOnly, kTagOnly };
  std::string location;
  bool insecure = false;
  bool pass_credentials = false;
  PullFrom pull_from = PullFrom::kAll;
};

// One `[[registry]]`.
struct RegistryEntry {
  std::string prefix;    // Never empty.
  std::string location;  // Empty: no rewriting.
  bool insecure = false;
  bool blocked = false;
  bool pass_credentials = false;
  std::vector<MirrorEntry> mirrors;
  std::string origin;  // "FILE:LINE".
};

// What to do with a name without a registry that several search registries may have.
enum class ShortNameMode {
  kPermissive,  // Try them in turn.
  kEnforcing,   // Refuse it: an alias must decide.
  kDisabled,    // Try them in turn. (Elsewhere: never ask a person.)
};

// nullopt for a word that is none of the modes.
std::optional<ShortNameMode> ParseShortNameMode(std::string_view word);

// What files say, merged. Plain data.
struct RegistriesData {
  std::optional<std::vector<std::string>> search;  // Unset: no file says anything.
  std::string search_origin;                       // "FILE:LINE".
  std::optional<ShortNameMode> short_name_mode;
  std::map<std::string, std::string> aliases;       // "app" → "reg.io/team/app".
  std::map<std::string, RegistryEntry> registries;  // By prefix.
  // Names of helpers, and kAuthFiles for the auth files, in the order to ask them.
  std::optional<std::vector<std::string>> credential_helpers;
  std::vector<std::string> warnings;  // For the log: keys that mean nothing.
};

// The entry of `credential-helpers` that stands for the auth files.
inline constexpr std::string_view kAuthFiles = "containers-auth.json";

// The merged configuration. Immutable after loading, so shared freely between threads.
class RegistriesConfig {
 public:
  // Where it is read from.
  struct Files {
    // Files, or directories whose `*.conf` files are read by name. Later files win. Missing ones
    // are skipped.
    std::vector<std::string> paths;
    // A file of which only the [aliases] count, and these more than all others: what other tools
    // remember of a person's choices. Empty: none.
    std::string alias_cache;
    // Instead of what the files say.
    std::optional<ShortNameMode> short_name_mode;
  };

  // What a node without configuration has: every name means what it says, short names docker.io.
  RegistriesConfig() = default;

  // INVALID_ARGUMENT, beginning with "FILE:LINE: ", for contents that make no sense.
  static absl::StatusOr<RegistriesConfig> Load(const Files& files);

  // Merges the text of one file over what is here. `name` is for messages. A file that is refused
  // leaves nothing behind.
  absl::Status Merge(std::string_view text, const std::string& name);

  // The names `text` may stand for in a pull, in the order to try. A short name is an alias, or is
  // looked for in each unqualified-search registry, or, when no file has such a list, means
  // docker.io. INVALID_ARGUMENT, with what to write into which file, when the list is empty, or has
  // several registries and the short-name mode is "enforcing".
  absl::StatusOr<std::vector<Reference>> Candidates(std::string_view text) const;

  // The names under which an image that is here may be meant by `text`: those of Candidates, and
  // for a short name that of localhost too. The mode does not matter: what is here is not asked
  // for anywhere. INVALID_ARGUMENT for what is no name.
  absl::StatusOr<std::vector<Reference>> LocalCandidates(std::string_view text) const;

  // The servers to ask for `reference`, mirrors first. `insecure_registries` are further hosts
  // ("host", "host:port", "*.domain") or longer prefixes that may be spoken to in plain HTTP.
  // PERMISSION_DENIED when the registry is blocked.
  absl::StatusOr<std::vector<Endpoint>> Endpoints(
      const Reference& reference, const std::vector<std::string>& insecure_registries) const;

  // In the order to ask them; the auth files alone when no file says otherwise.
  std::vector<std::string> credential_helpers() const;
  // Of all files, for the log.
  const std::vector<std::string>& warnings() const { return data_.warnings; }

 private:
  const RegistryEntry* Find(std::string_view name, size_t* covered) const;
  // The alias or the names in the search registries; empty when there is nowhere to search.
  absl::StatusOr<std::vector<Reference>> Expand(std::string_view text, bool* by_alias) const;

  RegistriesData data_;
  // Where an alias belongs, for messages.
  std::string alias_file_ = "/etc/containers/registries.conf.d/000-shortnames.conf";
};

// How many bytes of `name` ("host/path:tag@digest") the registry prefix `prefix` covers; 0 for no
// match. A prefix ends at the name's end or before "/", ":" or "@". "*.host" covers the host of any
// sub-domain, without its port.
size_t MatchRegistryPrefix(std::string_view name, std::string_view prefix);

}  // namespace imageservice
