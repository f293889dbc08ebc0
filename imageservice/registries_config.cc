#include "imageservice/registries_config.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

// Header-only and without exceptions: a parse error is a value, and no further shared library is
// loaded.
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

namespace imageservice {
namespace {

constexpr size_t kMaxFile = 1 << 20;

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

std::string TrimSlashes(std::string text) {
  while (!text.empty() && text.back() == '/') {
    text.pop_back();
  }
  return text;
}

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// The reference with its first `covered` bytes replaced by `location`.
absl::StatusOr<Reference> Relocate(const Reference& reference, size_t covered,
                                   const std::string& location) {
  if (location.empty()) {
    return reference;
  }
  const std::string name = location + WholeName(reference).substr(covered);
  ASSIGN_OR_RETURN(Reference relocated, Reference::Parse(name));
  if (IsShortName(name)) {
    return absl::InvalidArgumentError(
        base::StrCat("registries.conf: location \"", location, "\" does not begin with a host"));
  }
  return relocated;
}

bool IsListed(const std::vector<std::string>& prefixes, const Reference& reference) {
  const std::string name = WholeName(reference);
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& prefix) {
    return MatchRegistryPrefix(name, prefix) > 0;
  });
}

}  // namespace

// Reads the tables of one file into a configuration, with the file's name on every error.
class RegistriesFile {
 public:
  RegistriesFile(const std::string& name, RegistriesConfig* config)
      : name_(name), config_(config) {}

  absl::Status Read(std::string_view text);

 private:
  absl::Status Invalid(std::string_view why) const {
    return absl::InvalidArgumentError(base::StrCat(name_, ": ", why));
  }
  absl::Status ReadString(const toml::table& table, std::string_view key, std::string* value) const;
  absl::Status ReadBool(const toml::table& table, std::string_view key, bool* value) const;
  absl::Status ReadSearch(const toml::table& root);
  absl::Status ReadAliases(const toml::table& root);
  absl::Status ReadRegistries(const toml::table& root);
  absl::StatusOr<RegistryEntry> ReadRegistry(const toml::table& table) const;
  absl::StatusOr<MirrorEntry> ReadMirror(const toml::table& table, bool digest_only) const;
  absl::StatusOr<std::string> ReadLocation(const toml::table& table, std::string_view key) const;

  const std::string& name_;
  RegistriesConfig* const config_;
};

absl::Status RegistriesFile::Read(std::string_view text) {
  // toml++ 3.3 has undefined behaviour for some letters outside ASCII. They belong in comments
  // only.
  std::string ascii(text);
  std::replace_if(ascii.begin(), ascii.end(), [](char c) { return (c & 0x80) != 0; }, '?');
  toml::parse_result parsed = toml::parse(ascii, name_);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return Invalid(base::StrCat("line ", error.source().begin.line, ": ", error.description()));
  }
  const toml::table& root = parsed.table();
  if (root.contains("registries")) {
    return Invalid("it is in the format of version 1; version 2 has [[registry]] tables");
  }
  RETURN_IF_ERROR(ReadSearch(root));
  RETURN_IF_ERROR(ReadAliases(root));
  return ReadRegistries(root);
}

absl::Status RegistriesFile::ReadString(const toml::table& table, std::string_view key,
                                        std::string* value) const {
  const toml::node* node = table.get(key);
  if (node == nullptr) {
    return absl::OkStatus();
  }
  if (!node->is_string()) {
    return Invalid(base::StrCat(key, " is not a string"));
  }
  *value = node->as_string()->get();
  return absl::OkStatus();
}

absl::Status RegistriesFile::ReadBool(const toml::table& table, std::string_view key,
                                      bool* value) const {
  const toml::node* node = table.get(key);
  if (node == nullptr) {
    return absl::OkStatus();
  }
  if (!node->is_boolean()) {
    return Invalid(base::StrCat(key, " is not true or false"));
  }
  *value = node->as_boolean()->get();
  return absl::OkStatus();
}

absl::Status RegistriesFile::ReadSearch(const toml::table& root) {
  if (const toml::node* node = root.get("unqualified-search-registries"); node != nullptr) {
    std::vector<std::string> hosts;
    if (!node->is_array()) {
      return Invalid("unqualified-search-registries is not a list");
    }
    for (const toml::node& item : *node->as_array()) {
      if (!item.is_string()) {
        return Invalid("unqualified-search-registries holds something that is not a string");
      }
      hosts.push_back(TrimSlashes(item.as_string()->get()));
      if (!Reference::Parse(hosts.back() + "/x").ok() || IsShortName(hosts.back() + "/x")) {
        return Invalid(base::StrCat("search registry \"", hosts.back(), "\" is no registry"));
      }
    }
    config_->search_ = std::move(hosts);
  }
  std::string mode;
  RETURN_IF_ERROR(ReadString(root, "short-name-mode", &mode));
  if (mode == "enforcing") {
    config_->short_names_ = RegistriesConfig::ShortNames::kEnforcing;
  } else if (mode == "permissive") {
    config_->short_names_ = RegistriesConfig::ShortNames::kPermissive;
  } else if (mode == "disabled") {
    config_->short_names_ = RegistriesConfig::ShortNames::kDisabled;
  } else if (!mode.empty()) {
    return Invalid(base::StrCat("short-name-mode \"", mode, "\" is unknown"));
  }
  return absl::OkStatus();
}

absl::Status RegistriesFile::ReadAliases(const toml::table& root) {
  const toml::node* node = root.get("aliases");
  if (node == nullptr) {
    return absl::OkStatus();
  }
  if (!node->is_table()) {
    return Invalid("aliases is not a table");
  }
  for (const auto& [key, value] : *node->as_table()) {
    const std::string alias(key.str());
    if (!value.is_string()) {
      return Invalid(base::StrCat("alias \"", alias, "\" is not a string"));
    }
    const std::string& target = value.as_string()->get();
    if (target.empty()) {
      config_->aliases_.erase(alias);
      continue;
    }
    if (!Reference::Parse(target).ok() || IsShortName(target)) {
      return Invalid(base::StrCat("alias \"", alias, "\" does not name a registry's repository"));
    }
    config_->aliases_[alias] = target;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> RegistriesFile::ReadLocation(const toml::table& table,
                                                         std::string_view key) const {
  std::string location;
  RETURN_IF_ERROR(ReadString(table, key, &location));
  if (location.find("://") != std::string::npos) {
    return Invalid(base::StrCat(key, " \"", location, "\" has a scheme"));
  }
  return TrimSlashes(std::move(location));
}

absl::StatusOr<MirrorEntry> RegistriesFile::ReadMirror(const toml::table& table,
                                                       bool digest_only) const {
  MirrorEntry mirror;
  ASSIGN_OR_RETURN(mirror.location, ReadLocation(table, "location"));
  if (mirror.location.empty()) {
    return Invalid("a mirror has no location");
  }
  RETURN_IF_ERROR(ReadBool(table, "insecure", &mirror.insecure));
  std::string from;
  RETURN_IF_ERROR(ReadString(table, "pull-from-mirror", &from));
  if (!from.empty() && digest_only) {
    return Invalid("pull-from-mirror and mirror-by-digest-only exclude each other");
  }
  if (from == "digest-only" || digest_only) {
    mirror.pull_from = MirrorEntry::PullFrom::kDigestOnly;
  } else if (from == "tag-only") {
    mirror.pull_from = MirrorEntry::PullFrom::kTagOnly;
  } else if (!from.empty() && from != "all") {
    return Invalid(base::StrCat("pull-from-mirror \"", from, "\" is unknown"));
  }
  return mirror;
}

absl::StatusOr<RegistryEntry> RegistriesFile::ReadRegistry(const toml::table& table) const {
  RegistryEntry entry;
  ASSIGN_OR_RETURN(entry.location, ReadLocation(table, "location"));
  ASSIGN_OR_RETURN(entry.prefix, ReadLocation(table, "prefix"));
  if (entry.prefix.empty()) {
    entry.prefix = entry.location;
  }
  if (entry.prefix.empty()) {
    return Invalid("a registry has neither prefix nor location");
  }
  const bool wildcard = entry.prefix[0] == '*';
  if (wildcard &&
      (entry.prefix.substr(0, 2) != "*." || entry.prefix.find('/') != std::string::npos)) {
    return Invalid(base::StrCat("prefix \"", entry.prefix, "\": a wildcard is \"*.domain\""));
  }
  RETURN_IF_ERROR(ReadBool(table, "insecure", &entry.insecure));
  RETURN_IF_ERROR(ReadBool(table, "blocked", &entry.blocked));
  bool digest_only = false;
  RETURN_IF_ERROR(ReadBool(table, "mirror-by-digest-only", &digest_only));
  if (const toml::node* mirrors = table.get("mirror"); mirrors != nullptr) {
    if (!mirrors->is_array_of_tables()) {
      return Invalid("registry.mirror is not a list of tables");
    }
    for (const toml::node& mirror : *mirrors->as_array()) {
      ASSIGN_OR_RETURN(MirrorEntry read, ReadMirror(*mirror.as_table(), digest_only));
      entry.mirrors.push_back(std::move(read));
    }
  }
  return entry;
}

absl::Status RegistriesFile::ReadRegistries(const toml::table& root) {
  const toml::node* node = root.get("registry");
  if (node == nullptr) {
    return absl::OkStatus();
  }
  if (!node->is_array_of_tables()) {
    return Invalid("registry is not a list of tables");
  }
  std::map<std::string, RegistryEntry> read;
  std::map<std::string, std::pair<bool, bool>> by_location;  // insecure, blocked
  for (const toml::node& item : *node->as_array()) {
    ASSIGN_OR_RETURN(RegistryEntry entry, ReadRegistry(*item.as_table()));
    const std::pair<bool, bool> rules(entry.insecure, entry.blocked);
    const auto [known, added] = by_location.emplace(entry.location, rules);
    if (!entry.location.empty() && !added && known->second != rules) {
      return Invalid(
          base::StrCat("registry \"", entry.location, "\" is listed with contradicting rules"));
    }
    std::string prefix = entry.prefix;
    read.emplace(std::move(prefix), std::move(entry));  // The first of equal prefixes stays.
  }
  for (auto& [prefix, entry] : read) {
    config_->registries_[prefix] = std::move(entry);
  }
  return absl::OkStatus();
}

std::string Endpoint::host() const {
  return reference.domain() == "docker.io" ? "registry-1.docker.io" : reference.domain();
}

absl::StatusOr<RegistriesConfig> RegistriesConfig::Load(const std::vector<std::string>& paths) {
  RegistriesConfig config;
  for (const std::string& path : paths) {
    std::vector<std::string> files;
    absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(path);
    if (names.ok()) {
      for (const std::string& name : *names) {
        if (name[0] != '.' && EndsWith(name, ".conf")) {
          files.push_back(base::StrCat(path, "/", name));
        }
      }
    } else {
      files.push_back(path);
    }
    for (const std::string& file : files) {
      absl::StatusOr<std::string> text = base::ReadFile(file, kMaxFile);
      if (absl::IsNotFound(text.status())) {
        continue;
      }
      RETURN_IF_ERROR(text.status());
      RETURN_IF_ERROR(config.Merge(*text, file));
    }
  }
  return config;
}

absl::Status RegistriesConfig::Merge(std::string_view text, const std::string& name) {
  RegistriesConfig merged = *this;  // A file that is refused leaves nothing behind.
  RETURN_IF_ERROR(RegistriesFile(name, &merged).Read(text));
  *this = std::move(merged);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Reference>> RegistriesConfig::Candidates(std::string_view text) const {
  ASSIGN_OR_RETURN(Reference plain, Reference::Parse(text));
  if (!IsShortName(text)) {
    return std::vector<Reference>{std::move(plain)};
  }
  const size_t name_end = text.find_first_of(":@");
  const std::string_view name = text.substr(0, name_end);
  const std::string_view selector =
      name_end == std::string_view::npos ? std::string_view() : text.substr(name_end);
  if (const auto alias = aliases_.find(std::string(name)); alias != aliases_.end()) {
    ASSIGN_OR_RETURN(Reference target, Reference::Parse(base::StrCat(alias->second, selector)));
    return std::vector<Reference>{std::move(target)};
  }
  if (search_.empty()) {
    return std::vector<Reference>{std::move(plain)};
  }
  if (search_.size() > 1 && short_names_ == ShortNames::kEnforcing) {
    return absl::InvalidArgumentError(base::StrCat(
        "image reference \"", text, "\": short-name-mode is enforcing, ", search_.size(),
        " search registries are configured and no alias decides between them"));
  }
  std::vector<Reference> candidates;
  for (const std::string& host : search_) {
    ASSIGN_OR_RETURN(Reference candidate, Reference::Parse(base::StrCat(host, "/", text)));
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

absl::StatusOr<std::vector<Endpoint>> RegistriesConfig::Endpoints(
    const Reference& reference, const std::vector<std::string>& insecure_registries) const {
  const std::string name = WholeName(reference);
  const RegistryEntry* entry = nullptr;
  size_t covered = 0;
  for (const auto& [prefix, candidate] : registries_) {
    const size_t match = MatchRegistryPrefix(name, prefix);
    if (match > 0 && (entry == nullptr || prefix.size() > entry->prefix.size())) {
      entry = &candidate;
      covered = match;
    }
  }
  std::vector<Endpoint> endpoints;
  const auto add = [&](const std::string& location, bool insecure, bool mirror) -> absl::Status {
    Endpoint endpoint;
    ASSIGN_OR_RETURN(endpoint.reference, Relocate(reference, covered, location));
    endpoint.insecure = insecure || IsListed(insecure_registries, endpoint.reference);
    endpoint.mirror = mirror;
    endpoints.push_back(std::move(endpoint));
    return absl::OkStatus();
  };
  if (entry == nullptr) {
    RETURN_IF_ERROR(add("", false, false));
    return endpoints;
  }
  if (entry->blocked) {
    return absl::PermissionDeniedError(base::StrCat(reference.str(), ": registry \"", entry->prefix,
                                                    "\" is blocked in registries.conf"));
  }
  for (const MirrorEntry& mirror : entry->mirrors) {
    const bool by_digest = !reference.digest().empty();
    if ((mirror.pull_from == MirrorEntry::PullFrom::kDigestOnly && !by_digest) ||
        (mirror.pull_from == MirrorEntry::PullFrom::kTagOnly && by_digest)) {
      continue;
    }
    RETURN_IF_ERROR(add(mirror.location, mirror.insecure, true));
  }
  RETURN_IF_ERROR(add(entry->location, entry->insecure, false));
  return endpoints;
}

size_t MatchRegistryPrefix(std::string_view name, std::string_view prefix) {
  if (prefix.substr(0, 2) == "*.") {
    const std::string_view host = name.substr(0, name.find('/'));
    const std::string_view parent = prefix.substr(1);
    const std::string_view without_port =
        parent.find(':') == std::string_view::npos ? host.substr(0, host.find(':')) : host;
    return without_port.size() > parent.size() && EndsWith(without_port, parent) ? host.size() : 0;
  }
  if (prefix.empty() || name.substr(0, prefix.size()) != prefix) {
    return 0;
  }
  if (name.size() == prefix.size()) {
    return prefix.size();
  }
  const char next = name[prefix.size()];
  const bool is_host = prefix.find('/') == std::string_view::npos;
  const bool border = next == '/' || (!is_host && (next == ':' || next == '@'));
  return border ? prefix.size() : 0;
}

}  // namespace imageservice
