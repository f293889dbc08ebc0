#include "network/cni_config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace network {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxFiles = 1024;
constexpr size_t kMaxPlugins = 64;
// A file changed so short before it was read may change again without another time stamp.
constexpr absl::Duration kTimestampDoubt = absl::Seconds(1);

// The versions we speak, oldest first.
constexpr std::array<std::string_view, 5> kVersions = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

bool IsAlphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

absl::Status CheckNetworkName(std::string_view name) {
  if (name.empty()) {
    return absl::InvalidArgumentError("it has no \"name\"");
  }
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return IsAlphanumeric(c) || c == '_' || c == '.' || c == '-';
  });
  if (!plain || !IsAlphanumeric(name[0]) || name.size() > 255) {
    return absl::InvalidArgumentError(base::StrCat("\"", name, "\" is not a network name"));
  }
  return absl::OkStatus();
}

// The highest version we speak among cniVersion and cniVersions.
absl::StatusOr<std::string> ChooseVersion(const base::Json& object) {
  ASSIGN_OR_RETURN(const std::string version, base::JsonString(object, "cniVersion"));
  ASSIGN_OR_RETURN(std::vector<std::string> offered, base::JsonStrings(object, "cniVersions"));
  offered.push_back(version);
  for (auto known = kVersions.rbegin(); known != kVersions.rend(); ++known) {
    if (std::find(offered.begin(), offered.end(), *known) != offered.end()) {
      return std::string(*known);
    }
  }
  return absl::InvalidArgumentError(base::StrCat("cniVersion \"", version, "\" is none of ",
                                                 kVersions.front(), " to ", kVersions.back()));
}

absl::StatusOr<CniPluginConfig> ParsePlugin(const base::Json& object) {
  CniPluginConfig plugin;
  ASSIGN_OR_RETURN(plugin.type, base::JsonString(object, "type"));
  RETURN_IF_ERROR(CheckPluginType(plugin.type));
  const base::Json& capabilities = base::JsonMember(object, "capabilities");
  if (!capabilities.is_null() && !capabilities.is_object()) {
    return absl::InvalidArgumentError(
        base::StrCat("plugin ", plugin.type, ": \"capabilities\" is not an object"));
  }
  for (const auto& [name, value] : capabilities.items()) {
    if (value.is_boolean() && value.get<bool>()) {
      plugin.capabilities.insert(name);
    }
  }
  plugin.config = object;
  return plugin;
}

// A boolean that some write as a string, as CNI's own library allows.
absl::StatusOr<bool> Flag(const base::Json& object, std::string_view key) {
  const base::Json& value = base::JsonMember(object, key);
  if (!value.is_string()) {
    return base::JsonBool(object, key);
  }
  const auto& text = value.get_ref<const std::string&>();
  if (absl::EqualsIgnoreCase(text, "true") || absl::EqualsIgnoreCase(text, "false")) {
    return absl::EqualsIgnoreCase(text, "true");
  }
  return absl::InvalidArgumentError(base::StrCat("\"", key, "\" is neither true nor false"));
}

// What a file gave, with the folder of further plugins still to be read.
struct ParsedList {
  CniNetwork network;
  bool only_inlined = false;
};

absl::StatusOr<ParsedList> ParseList(const base::Json& object) {
  ParsedList list;
  ASSIGN_OR_RETURN(list.network.name, base::JsonString(object, "name"));
  RETURN_IF_ERROR(CheckNetworkName(list.network.name));
  ASSIGN_OR_RETURN(list.network.cni_version, ChooseVersion(object));
  ASSIGN_OR_RETURN(list.only_inlined, Flag(object, "loadOnlyInlinedPlugins"));
  ASSIGN_OR_RETURN(list.network.disable_gc, Flag(object, "disableGC"));
  RETURN_IF_ERROR(Flag(object, "disableCheck").status());  // We never CHECK.
  const base::Json& plugins = base::JsonMember(object, "plugins");
  if (!plugins.is_null() && !plugins.is_array()) {
    return absl::InvalidArgumentError("\"plugins\" is not a list");
  }
  for (const base::Json& plugin : plugins) {
    ASSIGN_OR_RETURN(CniPluginConfig parsed, ParsePlugin(plugin));
    list.network.plugins.push_back(std::move(parsed));
  }
  return list;
}

absl::Status CheckPluginCount(const CniNetwork& network) {
  if (network.plugins.empty()) {
    return absl::InvalidArgumentError(base::StrCat("network ", network.name, " has no plugins"));
  }
  if (network.plugins.size() > kMaxPlugins) {
    return absl::InvalidArgumentError(
        base::StrCat("network ", network.name, " has more than ", kMaxPlugins, " plugins"));
  }
  return absl::OkStatus();
}

std::string_view Extension(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(dot);
}

bool IsConfigName(std::string_view name) {
  const std::string_view extension = Extension(name);
  return extension == ".conf" || extension == ".conflist" || extension == ".json";
}

bool IsFile(const std::string& path) {
  struct stat facts = {};
  return stat(path.c_str(), &facts) == 0 && S_ISREG(facts.st_mode);
}

// The plugins in the list's own folder, beside its file: one object per ".conf" file.
absl::Status AddFolderPlugins(const std::string& directory, CniNetwork* network) {
  const std::string folder = base::StrCat(directory, "/", network->name);
  absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(folder);
  if (absl::IsNotFound(names.status())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(names.status());
  for (const std::string& name : *names) {
    const std::string path = base::StrCat(folder, "/", name);
    if (Extension(name) != ".conf" || !IsFile(path)) {
      continue;
    }
    ASSIGN_OR_RETURN(const std::string text, base::ReadFile(path, kMaxFileBytes));
    absl::StatusOr<base::Json> object = base::ParseJson(text);
    RETURN_IF_ERROR(base::Annotate(object.status(), path));
    absl::StatusOr<CniPluginConfig> plugin = ParsePlugin(*object);
    RETURN_IF_ERROR(base::Annotate(plugin.status(), path));
    network->plugins.push_back(*std::move(plugin));
  }
  return absl::OkStatus();
}

absl::StatusOr<CniNetwork> LoadFile(const std::string& directory, const std::string& name) {
  ASSIGN_OR_RETURN(const std::string text,
                   base::ReadFile(base::StrCat(directory, "/", name), kMaxFileBytes));
  if (Extension(name) != ".conflist") {
    return ParseCniSinglePlugin(text);
  }
  ASSIGN_OR_RETURN(const base::Json object, base::ParseJson(text));
  ASSIGN_OR_RETURN(ParsedList list, ParseList(object));
  if (!list.only_inlined) {
    RETURN_IF_ERROR(AddFolderPlugins(directory, &list.network));
  }
  RETURN_IF_ERROR(CheckPluginCount(list.network));
  return std::move(list.network);
}

absl::Time ToTime(const timespec& time) { return absl::TimeFromTimespec(time); }

// Puts `network` into each place that is still empty and asks for it.
void Choose(const std::string& default_network, const std::vector<std::string>& additional,
            const std::shared_ptr<const CniNetwork>& network,
            std::vector<std::shared_ptr<const CniNetwork>>* places) {
  for (size_t i = 0; i < places->size(); ++i) {
    const std::string& wanted = i == 0 ? default_network : additional[i - 1];
    // The first file is nobody's default that is asked for by name.
    const bool fits = wanted.empty() ? std::find(additional.begin(), additional.end(),
                                                 network->name) == additional.end()
                                     : network->name == wanted;
    if (fits && (*places)[i] == nullptr) {
      (*places)[i] = network;
    }
  }
}

}  // namespace

absl::Status CheckPluginType(std::string_view type) {
  if (type.empty()) {
    return absl::InvalidArgumentError("a plugin has no \"type\"");
  }
  const bool plain = std::all_of(type.begin(), type.end(), [](char c) {
    return c != '/' && static_cast<unsigned char>(c) > 0x20 && c != 0x7f;
  });
  if (!plain || type == "." || type == ".." || type.size() > 255) {
    return absl::InvalidArgumentError(base::StrCat("\"", type, "\" is not the name of a plugin"));
  }
  return absl::OkStatus();
}

absl::StatusOr<CniNetwork> ParseCniList(std::string_view text) {
  ASSIGN_OR_RETURN(const base::Json object, base::ParseJson(text));
  return ParseCniListObject(object);
}

absl::StatusOr<CniNetwork> ParseCniListObject(const base::Json& object) {
  ASSIGN_OR_RETURN(ParsedList list, ParseList(object));
  RETURN_IF_ERROR(CheckPluginCount(list.network));
  return std::move(list.network);
}

absl::StatusOr<CniNetwork> ParseCniSinglePlugin(std::string_view text) {
  ASSIGN_OR_RETURN(const base::Json object, base::ParseJson(text));
  if (base::JsonMember(object, "plugins").is_array()) {
    return absl::InvalidArgumentError("it is a list of plugins: it should be called .conflist");
  }
  CniNetwork network;
  ASSIGN_OR_RETURN(network.name, base::JsonString(object, "name"));
  RETURN_IF_ERROR(CheckNetworkName(network.name));
  ASSIGN_OR_RETURN(network.cni_version, ChooseVersion(object));
  ASSIGN_OR_RETURN(CniPluginConfig plugin, ParsePlugin(object));
  network.plugins.push_back(std::move(plugin));
  return network;
}

base::Json CniListJson(const CniNetwork& network) {
  base::Json plugins = base::Json::array();
  for (const CniPluginConfig& plugin : network.plugins) {
    plugins.push_back(plugin.config);
  }
  base::Json list = {
      {"cniVersion", network.cni_version}, {"name", network.name}, {"plugins", std::move(plugins)}};
  if (network.disable_gc) {
    list["disableGC"] = true;
  }
  return list;
}

CniConfigDirectory::CniConfigDirectory(std::string directory, std::string default_network,
                                       std::vector<std::string> additional)
    : directory_(std::move(directory)),
      default_network_(std::move(default_network)),
      additional_(std::move(additional)),
      networks_(absl::FailedPreconditionError("nothing read yet")) {}

absl::StatusOr<std::shared_ptr<const CniNetworks>> CniConfigDirectory::Networks() {
  Snapshot before = TakeSnapshot();
  Files good;
  {
    base::MutexLock lock(&mutex_);
    if (!snapshot_.empty() && snapshot_ == before.text) {
      return networks_;
    }
    good = good_;
  }
  const absl::Time read_at = absl::Now();
  absl::StatusOr<std::shared_ptr<const CniNetworks>> networks = Load(&good);
  const std::string complaint = networks.ok() ? (*networks)->complaint : "";
  base::MutexLock lock(&mutex_);
  networks_ = networks;
  good_ = std::move(good);
  if (complaint != complaint_ && !complaint.empty()) {
    base::LogWarning("CNI configuration: ", complaint);
  }
  complaint_ = complaint;
  // What was read may be kept if nothing that changes now could look the same later.
  const bool settled = before.newest_change < read_at - kTimestampDoubt;
  snapshot_ = settled ? std::move(before.text) : std::string();
  return networks;
}

CniConfigDirectory::Snapshot CniConfigDirectory::TakeSnapshot() const {
  Snapshot snapshot;
  const auto add = [&snapshot](const std::string& path, const struct stat& facts) {
    snapshot.text += base::StrCat(path, "\n", facts.st_dev, " ", facts.st_ino, " ", facts.st_size,
                                  " ", absl::ToUnixNanos(ToTime(facts.st_mtim)), " ",
                                  absl::ToUnixNanos(ToTime(facts.st_ctim)), "\n");
    snapshot.newest_change =
        std::max({snapshot.newest_change, ToTime(facts.st_mtim), ToTime(facts.st_ctim)});
  };
  const auto add_names = [&add](const std::string& directory, const auto& follow_folder) {
    struct stat facts = {};
    if (stat(directory.c_str(), &facts) == 0) {
      add(directory, facts);
    }
    const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(directory);
    for (size_t i = 0; names.ok() && i < names->size() && i < kMaxFiles; ++i) {
      const std::string path = base::StrCat(directory, "/", (*names)[i]);
      if (stat(path.c_str(), &facts) != 0) {
        continue;
      }
      if (S_ISDIR(facts.st_mode)) {
        follow_folder(path);
      } else if (IsConfigName((*names)[i])) {
        add(path, facts);
      }
    }
  };
  // The folders of lists are one level deep.
  add_names(directory_, [&add_names](const std::string& folder) {
    add_names(folder, [](const std::string&) {});
  });
  return snapshot;
}

absl::StatusOr<std::shared_ptr<const CniNetworks>> CniConfigDirectory::Load(Files* good) const {
  const absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(directory_);
  if (!names.ok() && !absl::IsNotFound(names.status())) {
    return absl::FailedPreconditionError(
        base::StrCat("CNI configuration: ", base::ToStd(names.status().message())));
  }
  auto found = std::make_shared<CniNetworks>();
  found->networks.resize(1 + additional_.size());
  const Files before = std::exchange(*good, Files());
  std::string reasons;
  bool any = false;
  const auto first_missing = [&found] {
    return std::find(found->networks.begin(), found->networks.end(), nullptr);
  };
  for (size_t i = 0;
       names.ok() && i < names->size() && i < kMaxFiles && first_missing() != found->networks.end();
       ++i) {
    const std::string& name = (*names)[i];
    if (!IsConfigName(name) || !IsFile(base::StrCat(directory_, "/", name))) {
      continue;
    }
    any = true;
    const absl::StatusOr<CniNetwork> read = LoadFile(directory_, name);
    std::shared_ptr<const CniNetwork> network;
    if (read.ok()) {
      network = std::make_shared<const CniNetwork>(*read);
    } else {
      const auto earlier = before.find(name);
      network = earlier == before.end() ? nullptr : earlier->second;
      reasons += base::StrCat(reasons.empty() ? "" : "; ", name, ": ",
                              base::ToStd(read.status().message()),
                              network == nullptr ? "" : " (what it said before holds)");
    }
    if (network != nullptr) {
      good->emplace(name, network);
      Choose(default_network_, additional_, network, &found->networks);
    }
  }
  const auto missing = first_missing();
  if (missing == found->networks.end()) {
    found->complaint = std::move(reasons);
    return found;
  }
  const auto position = static_cast<size_t>(missing - found->networks.begin());
  const std::string& wanted = position == 0 ? default_network_ : additional_[position - 1];
  const std::string what = !any             ? "no CNI configuration"
                           : wanted.empty() ? "no valid CNI configuration"
                                            : base::StrCat("no CNI network ", wanted);
  return absl::FailedPreconditionError(
      base::StrCat(what, " in ", directory_, reasons.empty() ? "" : ": ", reasons));
}

}  // namespace network
