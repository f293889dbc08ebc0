#include "imageservice/registries_file.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"
#include "base/toml.h"
#include "imageservice/credential_helpers.h"

namespace imageservice {
namespace {

std::string TrimSlashes(std::string text) {
  while (!text.empty() && text.back() == '/') {
    text.pop_back();
  }
  return text;
}

// Whether "text/app" names a repository of a registry, and not one of docker.io.
bool BeginsWithHost(std::string_view text) {
  const std::string host(text.substr(0, text.find('/')));
  return IsRegistryHost(host) && !IsShortName(host + "/x");
}

// Reads the tables of one file, with file and line on every error.
class RegistriesFile {
 public:
  RegistriesFile(const std::string& name, RegistriesData* data) : name_(name), data_(data) {}

  absl::Status Read(const base::TomlValue& root);
  absl::Status ReadAliases(base::TomlReader* root);
  void Warn(const base::TomlReader& reader);

 private:
  absl::Status ReadSearch(base::TomlReader* root, std::string_view key);
  absl::Status ReadMode(base::TomlReader* root);
  absl::Status ReadHelpers(base::TomlReader* root);
  absl::Status ReadRegistries(base::TomlReader* root);
  absl::Status ReadVersion1(const base::TomlValue& registries);
  absl::StatusOr<RegistryEntry> ReadRegistry(const base::TomlValue& table);
  absl::StatusOr<MirrorEntry> ReadMirror(const base::TomlValue& table, bool digest_only);
  absl::Status ReadLocation(base::TomlReader* reader, std::string_view key, std::string* location);
  std::string Origin(int line) const { return base::StrCat(name_, ":", line); }

  const std::string& name_;
  RegistriesData* const data_;
};

absl::Status RegistriesFile::Read(const base::TomlValue& root) {
  base::TomlReader reader(root, name_);
  ASSIGN_OR_RETURN(const base::TomlValue* version1, reader.Table("registries"));
  RETURN_IF_ERROR(ReadSearch(&reader, "unqualified-search-registries"));
  RETURN_IF_ERROR(ReadMode(&reader));
  RETURN_IF_ERROR(ReadHelpers(&reader));
  RETURN_IF_ERROR(ReadAliases(&reader));
  RETURN_IF_ERROR(ReadRegistries(&reader));
  if (version1 != nullptr) {
    if (reader.Any("registry") != nullptr ||
        reader.Any("unqualified-search-registries") != nullptr) {
      return reader.Invalid("registries",
                            "the formats of version 1 ([registries.…]) and 2 ([[registry]]) in one "
                            "file");
    }
    RETURN_IF_ERROR(ReadVersion1(*version1));
  }
  reader.Any("additional-layer-store-auth-helper");  // Means something to others only.
  Warn(reader);
  return absl::OkStatus();
}

void RegistriesFile::Warn(const base::TomlReader& reader) {
  const std::vector<std::string> unknown = reader.UnknownKeys();
  data_->warnings.insert(data_->warnings.end(), unknown.begin(), unknown.end());
}

absl::Status RegistriesFile::ReadSearch(base::TomlReader* root, std::string_view key) {
  const base::TomlValue* value = root->Any(key);
  if (value == nullptr) {
    return absl::OkStatus();
  }
  std::vector<std::string> hosts;
  RETURN_IF_ERROR(root->Strings(key, &hosts));
  for (std::string& host : hosts) {
    host = TrimSlashes(std::move(host));
    if (!BeginsWithHost(host) || !Reference::Parse(host + "/x").ok()) {
      return root->Invalid(key, base::StrCat("search registry \"", host, "\" is no registry"));
    }
  }
  data_->search = std::move(hosts);
  data_->search_origin = Origin(value->line);
  return absl::OkStatus();
}

absl::Status RegistriesFile::ReadMode(base::TomlReader* root) {
  std::string mode;
  RETURN_IF_ERROR(root->String("short-name-mode", &mode));
  if (mode.empty()) {
    return absl::OkStatus();
  }
  const std::optional<ShortNameMode> parsed = ParseShortNameMode(mode);
  if (!parsed) {
    return root->Invalid("short-name-mode",
                         base::StrCat("short-name-mode \"", mode,
                                      "\" is unknown: want enforcing, permissive or disabled"));
  }
  data_->short_name_mode = parsed;
  return absl::OkStatus();
}

absl::Status RegistriesFile::ReadHelpers(base::TomlReader* root) {
  constexpr std::string_view kKey = "credential-helpers";
  if (root->Any(kKey) == nullptr) {
    return absl::OkStatus();
  }
  std::vector<std::string> helpers;
  RETURN_IF_ERROR(root->Strings(kKey, &helpers));
  for (const std::string& helper : helpers) {
    const absl::Status named = helper == kAuthFiles ? absl::OkStatus() : CheckHelperName(helper);
    if (!named.ok() || helper.empty()) {
      return root->Invalid(kKey, base::StrCat("\"", helper, "\" is no credential helper: a name is ",
                                              "made of lower-case letters, digits and \"-\""));
    }
  }
  data_->credential_helpers = std::move(helpers);
  return absl::OkStatus();
}

absl::Status RegistriesFile::ReadAliases(base::TomlReader* root) {
  ASSIGN_OR_RETURN(const base::TomlValue* table, root->Table("aliases"));
  if (table == nullptr) {
    return absl::OkStatus();
  }
  base::TomlReader reader(*table, name_);
  for (const auto& [alias, value] : table->members) {
    std::string target;
    RETURN_IF_ERROR(reader.String(alias, &target));
    const absl::StatusOr<Reference> plain = Reference::Parse(alias);
    if (!IsShortName(alias) || !plain.ok() || alias.find_first_of(":@") != std::string::npos) {
      return reader.Invalid(
          alias, base::StrCat("alias \"", alias, "\" is no name without registry and tag"));
    }
    if (target.empty()) {
      data_->aliases.erase(alias);
      continue;
    }
    const bool selected = target.find('@') != std::string::npos ||
                          target.find(':', target.find('/') + 1) != std::string::npos;
    if (!Reference::Parse(target).ok() || IsShortName(target) || selected) {
      return reader.Invalid(alias, base::StrCat("alias \"", alias, "\": \"", target,
                                                "\" is no registry's repository (without tag)"));
    }
    data_->aliases[alias] = target;
  }
  return absl::OkStatus();
}

absl::Status RegistriesFile::ReadLocation(base::TomlReader* reader, std::string_view key,
                                          std::string* location) {
  RETURN_IF_ERROR(reader->String(key, location));
  if (location->find("://") != std::string::npos) {
    return reader->Invalid(
        key, base::StrCat(key, " \"", *location, "\" has a scheme: want host[:port][/path]"));
  }
  *location = TrimSlashes(std::move(*location));
  if (key == "location" && !location->empty() && !BeginsWithHost(*location)) {
    return reader->Invalid(
        key, base::StrCat("location \"", *location, "\" does not begin with a registry's host"));
  }
  return absl::OkStatus();
}

absl::StatusOr<MirrorEntry> RegistriesFile::ReadMirror(const base::TomlValue& table,
                                                       bool digest_only) {
  base::TomlReader reader(table, name_);
  MirrorEntry mirror;
  RETURN_IF_ERROR(ReadLocation(&reader, "location", &mirror.location));
  if (mirror.location.empty()) {
    return reader.Invalid("location", "a mirror has no location");
  }
  RETURN_IF_ERROR(reader.Boolean("insecure", &mirror.insecure));
  RETURN_IF_ERROR(reader.Boolean("pass_credentials", &mirror.pass_credentials));
  std::string from;
  RETURN_IF_ERROR(reader.String("pull-from-mirror", &from));
  if (!from.empty() && digest_only) {
    return reader.Invalid("pull-from-mirror",
                          "pull-from-mirror and mirror-by-digest-only exclude each other");
  }
  if (from == "digest-only" || digest_only) {
    mirror.pull_from = MirrorEntry::PullFrom::kDigestOnly;
  } else if (from == "tag-only") {
    mirror.pull_from = MirrorEntry::PullFrom::kTagOnly;
  } else if (!from.empty() && from != "all") {
    return reader.Invalid("pull-from-mirror",
                          base::StrCat("pull-from-mirror \"", from,
                                       "\" is unknown: want all, digest-only or tag-only"));
  }
  Warn(reader);
  return mirror;
}

absl::StatusOr<RegistryEntry> RegistriesFile::ReadRegistry(const base::TomlValue& table) {
  base::TomlReader reader(table, name_);
  RegistryEntry entry;
  entry.origin = Origin(table.line);
  RETURN_IF_ERROR(ReadLocation(&reader, "location", &entry.location));
  RETURN_IF_ERROR(ReadLocation(&reader, "prefix", &entry.prefix));
  if (entry.prefix.empty()) {
    entry.prefix = entry.location;
  }
  if (entry.prefix.empty()) {
    return reader.Invalid("", "a registry has neither prefix nor location");
  }
  const bool wildcard = entry.prefix[0] == '*';
  if (wildcard &&
      (entry.prefix.substr(0, 2) != "*." || entry.prefix.find('/') != std::string::npos)) {
    return reader.Invalid(
        "prefix", base::StrCat("prefix \"", entry.prefix, "\": a wildcard is \"*.domain\""));
  }
  RETURN_IF_ERROR(reader.Boolean("insecure", &entry.insecure));
  RETURN_IF_ERROR(reader.Boolean("blocked", &entry.blocked));
  RETURN_IF_ERROR(reader.Boolean("pass_credentials", &entry.pass_credentials));
  bool digest_only = false;
  RETURN_IF_ERROR(reader.Boolean("mirror-by-digest-only", &digest_only));
  ASSIGN_OR_RETURN(const std::vector<const base::TomlValue*> mirrors, reader.Tables("mirror"));
  for (const base::TomlValue* mirror : mirrors) {
    ASSIGN_OR_RETURN(MirrorEntry read, ReadMirror(*mirror, digest_only));
    entry.mirrors.push_back(std::move(read));
  }
  Warn(reader);
  return entry;
}

absl::Status RegistriesFile::ReadRegistries(base::TomlReader* root) {
  ASSIGN_OR_RETURN(const std::vector<const base::TomlValue*> tables, root->Tables("registry"));
  std::map<std::string, RegistryEntry> read;
  std::map<std::string, std::pair<bool, bool>> by_location;  // insecure, blocked
  for (const base::TomlValue* table : tables) {
    ASSIGN_OR_RETURN(RegistryEntry entry, ReadRegistry(*table));
    const std::pair<bool, bool> rules(entry.insecure, entry.blocked);
    const auto [known, added] = by_location.emplace(entry.location, rules);
    if (!entry.location.empty() && !added && known->second != rules) {
      return absl::InvalidArgumentError(base::StrCat(entry.origin, ": location \"", entry.location,
                                                     "\" is listed with contradicting insecure or "
                                                     "blocked"));
    }
    std::string prefix = entry.prefix;
    read.emplace(std::move(prefix), std::move(entry));  // The first of equal prefixes stays.
  }
  for (auto& [prefix, entry] : read) {
    data_->registries[prefix] = std::move(entry);
  }
  return absl::OkStatus();
}

// [registries.search], [registries.insecure] and [registries.block], each with a list `registries`.
absl::Status RegistriesFile::ReadVersion1(const base::TomlValue& registries) {
  base::TomlReader reader(registries, name_);
  for (const std::string_view kind : {"search", "insecure", "block"}) {
    ASSIGN_OR_RETURN(const base::TomlValue* table, reader.Table(kind));
    if (table == nullptr) {
      continue;
    }
    base::TomlReader list(*table, name_);
    if (kind == "search") {
      RETURN_IF_ERROR(ReadSearch(&list, "registries"));
      Warn(list);
      continue;
    }
    std::vector<std::string> hosts;
    RETURN_IF_ERROR(list.Strings("registries", &hosts));
    for (std::string& host : hosts) {
      host = TrimSlashes(std::move(host));
      if (host.find("://") != std::string::npos || !BeginsWithHost(host)) {
        return list.Invalid("registries", base::StrCat("\"", host, "\" is no registry"));
      }
      RegistryEntry& entry = data_->registries[host];
      entry.prefix = entry.location = host;
      entry.origin = Origin(table->line);
      (kind == "block" ? entry.blocked : entry.insecure) = true;
    }
    Warn(list);
  }
  Warn(reader);
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadRegistriesFile(std::string_view text, const std::string& name,
                                RegistriesData* data) {
  ASSIGN_OR_RETURN(const base::TomlValue root, base::ParseToml(text, name));
  return RegistriesFile(name, data).Read(root);
}

absl::Status ReadAliasFile(std::string_view text, const std::string& name, RegistriesData* data) {
  ASSIGN_OR_RETURN(const base::TomlValue root, base::ParseToml(text, name));
  base::TomlReader reader(root, name);
  RegistriesFile file(name, data);
  RETURN_IF_ERROR(file.ReadAliases(&reader));
  if (const std::vector<std::string> unknown = reader.UnknownKeys(); !unknown.empty()) {
    return absl::InvalidArgumentError(
        base::StrCat(unknown.front(), ": only [aliases] belong here"));
  }
  return absl::OkStatus();
}

}  // namespace imageservice
