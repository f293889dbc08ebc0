#include "imageservice/registries_config.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/registries_file.h"

namespace imageservice {
namespace {

constexpr size_t kMaxFile = 1 << 20;

// "HOST/path:Tag" → "host/path:Tag".
std::string WithHostInLowerCase(std::string_view name) {
  const size_t host = std::min(name.find('/'), name.size());
  return base::StrCat(absl::AsciiStrToLower(base::ToAbsl(name.substr(0, host))), name.substr(host));
}

std::string WholeName(const Reference& reference) {
  std::string name = reference.repository();
  if (!reference.tag().empty()) {
    name += ":" + reference.tag();
  }
  if (!reference.digest().empty()) {
    name += "@" + reference.digest();
  }
  return name;
}

// The reference with its first `covered` bytes replaced by `location`.
absl::StatusOr<Reference> Relocate(const Reference& reference, size_t covered,
                                   const std::string& location, const std::string& origin) {
  if (location.empty()) {
    return reference;
  }
  const std::string name = location + WholeName(reference).substr(covered);
  absl::StatusOr<Reference> relocated = Reference::Parse(name);
  if (!relocated.ok()) {
    return base::Annotate(relocated.status(),
                          base::StrCat(origin, ": location \"", location, "\""));
  }
  return relocated;
}

// Whether one of crisp's own insecure_registries means the registry. There a port tells registries
// apart: "localhost" is not "localhost:5000".
bool IsListed(const std::vector<std::string>& prefixes, const Reference& reference) {
  const std::string name = WholeName(reference);
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& prefix) {
    const size_t covered = MatchRegistryPrefix(name, prefix);
    const bool wildcard = prefix[0] == '*';
    return covered > 0 && (wildcard || covered >= reference.domain().size());
  });
}

// The text of one file; nullopt when it is missing.
absl::StatusOr<std::optional<std::string>> ReadIfThere(const std::string& path) {
  absl::StatusOr<std::string> text = base::ReadFile(path, kMaxFile);
  if (absl::IsNotFound(text.status())) {
    return std::optional<std::string>();
  }
  RETURN_IF_ERROR(text.status());
  return std::optional<std::string>(*std::move(text));
}

}  // namespace

std::string Endpoint::host() const {
  return reference.domain() == "docker.io" ? "registry-1.docker.io" : reference.domain();
}

std::optional<ShortNameMode> ParseShortNameMode(std::string_view word) {
  if (word == "enforcing") {
    return ShortNameMode::kEnforcing;
  }
  if (word == "permissive") {
    return ShortNameMode::kPermissive;
  }
  return word == "disabled" ? std::optional(ShortNameMode::kDisabled) : std::nullopt;
}

absl::StatusOr<RegistriesConfig> RegistriesConfig::Load(const Files& files) {
  RegistriesConfig config;
  for (const std::string& path : files.paths) {
    std::vector<std::string> found;
    absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(path);
    if (names.ok()) {
      for (const std::string& name : *names) {
        if (name[0] != '.' && name.ends_with(".conf")) {
          found.push_back(base::StrCat(path, "/", name));
        }
      }
      config.alias_file_ = path + "/000-shortnames.conf";
    } else {
      found.push_back(path);
    }
    for (const std::string& file : found) {
      ASSIGN_OR_RETURN(const std::optional<std::string> text, ReadIfThere(file));
      if (text) {
        RETURN_IF_ERROR(config.Merge(*text, file));
      }
    }
  }
  if (!files.alias_cache.empty()) {
    ASSIGN_OR_RETURN(const std::optional<std::string> text, ReadIfThere(files.alias_cache));
    if (text) {
      RETURN_IF_ERROR(ReadAliasFile(*text, files.alias_cache, &config.data_));
    }
  }
  if (files.short_name_mode) {
    config.data_.short_name_mode = files.short_name_mode;
  }
  return config;
}

absl::Status RegistriesConfig::Merge(std::string_view text, const std::string& name) {
  RegistriesData merged = data_;
  RETURN_IF_ERROR(ReadRegistriesFile(text, name, &merged));
  data_ = std::move(merged);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Reference>> RegistriesConfig::Expand(std::string_view text,
                                                                bool* by_alias) const {
  *by_alias = false;
  ASSIGN_OR_RETURN(Reference plain, Reference::Parse(text));
  const size_t name_end = text.find_first_of(":@");
  const std::string_view selector =
      name_end == std::string_view::npos ? std::string_view() : text.substr(name_end);
  if (const auto alias = data_.aliases.find(std::string(text.substr(0, name_end)));
      alias != data_.aliases.end()) {
    *by_alias = true;
    ASSIGN_OR_RETURN(Reference target, Reference::Parse(base::StrCat(alias->second, selector)));
    return std::vector<Reference>{std::move(target)};
  }
  if (!data_.search) {
    return std::vector<Reference>{std::move(plain)};
  }
  std::vector<Reference> candidates;
  for (const std::string& host : *data_.search) {
    ASSIGN_OR_RETURN(Reference candidate, Reference::Parse(base::StrCat(host, "/", text)));
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

absl::StatusOr<std::vector<Reference>> RegistriesConfig::Candidates(std::string_view text) const {
  if (!IsShortName(text)) {
    ASSIGN_OR_RETURN(Reference plain, Reference::Parse(text));
    return std::vector<Reference>{std::move(plain)};
  }
  bool by_alias = false;
  ASSIGN_OR_RETURN(std::vector<Reference> candidates, Expand(text, &by_alias));
  const std::string problem = base::StrCat("image reference \"", text, "\" names no registry, ");
  if (candidates.empty()) {
    return absl::InvalidArgumentError(
        base::StrCat(problem, "no alias stands for it and unqualified-search-registries is empty (",
                     data_.search_origin, "): write the whole name, such as \"",
                     Reference::Parse(text)->str(), "\", or list a registry there"));
  }
  if (candidates.size() > 1 && data_.short_name_mode == ShortNameMode::kEnforcing) {
    return absl::InvalidArgumentError(base::StrCat(
        problem, "the short-name mode is enforcing and no alias decides between the ",
        candidates.size(), " search registries (", absl::StrJoin(*data_.search, ", "),
        "): write the whole name, such as \"", candidates.front().str(), "\", or put [aliases] \"",
        text.substr(0, text.find_first_of(":@")), "\" = \"", candidates.front().repository(),
        "\" into ", alias_file_,
        ", or set short_name_mode = \"disabled\" under [crisp.image] in /etc/crisp/crisp.conf"));
  }
  return candidates;
}

absl::StatusOr<std::vector<Reference>> RegistriesConfig::LocalCandidates(
    std::string_view text) const {
  if (!IsShortName(text)) {
    ASSIGN_OR_RETURN(Reference plain, Reference::Parse(text));
    return std::vector<Reference>{std::move(plain)};
  }
  bool by_alias = false;
  ASSIGN_OR_RETURN(std::vector<Reference> candidates, Expand(text, &by_alias));
  if (!by_alias) {
    ASSIGN_OR_RETURN(Reference local, Reference::Parse(base::StrCat("localhost/", text)));
    candidates.insert(candidates.begin(), std::move(local));
  }
  return candidates;
}

const RegistryEntry* RegistriesConfig::Find(std::string_view name, size_t* covered) const {
  const RegistryEntry* entry = nullptr;
  for (const auto& [prefix, candidate] : data_.registries) {
    const size_t match = MatchRegistryPrefix(name, prefix);
    if (match > 0 && (entry == nullptr || prefix.size() > entry->prefix.size())) {
      entry = &candidate;
      *covered = match;
    }
  }
  return entry;
}

absl::StatusOr<std::vector<Endpoint>> RegistriesConfig::Endpoints(
    const Reference& reference, const std::vector<std::string>& insecure_registries) const {
  size_t covered = 0;
  const RegistryEntry* entry = Find(WholeName(reference), &covered);
  static const RegistryEntry* const kPlain = new RegistryEntry();
  if (entry == nullptr) {
    entry = kPlain;
  }
  if (entry->blocked) {
    return absl::PermissionDeniedError(base::StrCat(reference.str(), ": registry \"", entry->prefix,
                                                    "\" is blocked by ", entry->origin));
  }
  std::vector<Endpoint> endpoints;
  const auto add = [&](const std::string& location, Endpoint endpoint) -> absl::Status {
    ASSIGN_OR_RETURN(endpoint.reference, Relocate(reference, covered, location, entry->origin));
    endpoint.insecure |= IsListed(insecure_registries, endpoint.reference);
    endpoints.push_back(std::move(endpoint));
    return absl::OkStatus();
  };
  for (const MirrorEntry& mirror : entry->mirrors) {
    const bool by_digest = !reference.digest().empty();
    if ((mirror.pull_from == MirrorEntry::PullFrom::kDigestOnly && !by_digest) ||
        (mirror.pull_from == MirrorEntry::PullFrom::kTagOnly && by_digest)) {
      continue;
    }
    RETURN_IF_ERROR(add(mirror.location, {.insecure = mirror.insecure,
                                          .mirror = true,
                                          .pass_credentials = mirror.pass_credentials}));
  }
  RETURN_IF_ERROR(add(entry->location,
                      {.insecure = entry->insecure, .pass_credentials = entry->pass_credentials}));
  return endpoints;
}

std::vector<std::string> RegistriesConfig::credential_helpers() const {
  return data_.credential_helpers ? *data_.credential_helpers
                                  : std::vector<std::string>{std::string(kAuthFiles)};
}

size_t MatchRegistryPrefix(std::string_view name, std::string_view prefix) {
  const std::string folded_name = WithHostInLowerCase(name);
  const std::string folded_prefix = WithHostInLowerCase(prefix);
  name = folded_name;
  prefix = folded_prefix;
  const auto ends = [&](size_t at) {
    return at == name.size() || name[at] == '/' || name[at] == ':' || name[at] == '@';
  };
  if (prefix.substr(0, 2) == "*.") {
    const std::string_view parent = prefix.substr(1);
    std::string_view host = name.substr(0, name.find('/'));
    if (parent.find(':') == std::string_view::npos) {
      host = host.substr(0, host.rfind(':'));
    }
    return host.size() > parent.size() && host.ends_with(parent) ? host.size() : 0;
  }
  const bool matches = !prefix.empty() && name.starts_with(prefix) && ends(prefix.size());
  return matches ? prefix.size() : 0;
}

}  // namespace imageservice
