// What people read and type: `crisp config`, the template and the flags.
#include <algorithm>

#include "absl/strings/numbers.h"
#include "base/strings.h"
#include "daemon/config.h"
#include "daemon/config_keys.h"

namespace crispd {
namespace {

constexpr size_t kTextColumns = 98;

// `text` as comment lines of at most kTextColumns.
std::string Comment(std::string_view text) {
  std::string out = "#";
  size_t column = 1;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (column + 1 + word.size() > kTextColumns) {
      out += "\n#";
      column = 1;
    }
    out += ' ';
    out += word;
    column += 1 + word.size();
  }
  return out + "\n";
}

std::string FlagName(const ConfigKey<Config>& key) {
  std::string name = base::StrCat("--", key.flag.empty() ? key.name : key.flag);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

template <typename Owner>
bool IsList(const ConfigKey<Owner>& key) {
  return std::holds_alternative<std::vector<std::string> Owner::*>(key.field);
}

}  // namespace

std::string FormatConfig(const Config& config) {
  std::string out;
  std::string_view table;
  for (const ConfigKey<Config>& key : ConfigKeys()) {
    if (key.table != table) {
      table = key.table;
      out += base::StrCat(out.empty() ? "" : "\n", "[", table, "]\n");
    }
    out += base::StrCat(key.name, " = ", FormatField(key, config), "  # ",
                        config.Origin(key.Dotted()), "\n");
  }
  for (const auto& [name, handler] : config.runtimes) {
    out += base::StrCat("\n[", HandlerKey(name, ""), "]\n");
    for (const ConfigKey<RuntimeHandler>& key : HandlerKeys()) {
      out += base::StrCat(key.name, " = ", FormatField(key, handler), "  # ",
                          config.Origin(HandlerKey(name, key.name)), "\n");
    }
  }
  return out;
}

std::string ConfigTemplate() {
  std::string out =
      Comment(
          "The configuration of crisp, as `crisp config --default` prints it: every key with its "
          "default.") +
      Comment(
          "Uncomment what you change, or better: put it into a file of your own in "
          "/etc/crisp/crisp.conf.d. Flags win over those files, those files over this one; "
          "`crisp config` shows what is in force and where each value comes from.");
  ConfigSources none;
  none.file.clear();
  none.directory.clear();
  const absl::StatusOr<Config> defaults = LoadConfig(none);
  std::string_view table;
  for (const ConfigKey<Config>& key : ConfigKeys()) {
    if (key.table != table) {
      table = key.table;
      out += base::StrCat("\n[", table, "]\n");
    }
    out += base::StrCat("\n", Comment(key.help), "# ", key.name, " = ", FormatField(key, *defaults),
                        "\n");
  }
  out += "\n" + Comment(
                    "One table for each OCI runtime that pods may ask for. These two are there by "
                    "default where they are installed.");
  bool first = true;
  for (const auto& [name, handler] : defaults->runtimes) {
    out += base::StrCat("\n# [", HandlerKey(name, ""), "]\n");
    for (const ConfigKey<RuntimeHandler>& key : HandlerKeys()) {
      out += base::StrCat(first ? base::StrCat("\n", Comment(key.help)) : "", "# ", key.name, " = ",
                          FormatField(key, handler), "\n");
    }
    first = false;
  }
  return out;
}

std::vector<ConfigFlag> ConfigFlags() {
  std::vector<ConfigFlag> flags;
  for (const ConfigKey<Config>& key : ConfigKeys()) {
    flags.push_back({.key = key.Dotted(),
                     .flag = FlagName(key),
                     .help = std::string(key.help),
                     .repeatable = IsList(key)});
  }
  return flags;
}

absl::StatusOr<FlagSetting> ParseConfigFlag(const ConfigFlag& flag,
                                            const std::vector<std::string>& arguments) {
  const auto keys = ConfigKeys();
  const auto key = std::find_if(keys.begin(), keys.end(), [&](const ConfigKey<Config>& candidate) {
    return candidate.Dotted() == flag.key;
  });
  if (key == keys.end() || arguments.empty()) {
    return absl::InvalidArgumentError(base::StrCat(flag.flag, ": no value"));
  }
  FlagSetting setting{.key = flag.key, .flag = flag.flag, .value = arguments};
  if (IsList(*key)) return setting;
  const std::string text = arguments.back();
  setting.value = text;
  int64_t number = 0;
  const bool is_bool = std::holds_alternative<bool Config::*>(key->field);
  if (is_bool && (text == "true" || text == "false")) {
    setting.value = text == "true";
  } else if (std::holds_alternative<int64_t Config::*>(key->field) &&
             absl::SimpleAtoi(text, &number)) {
    setting.value = number;
  }
  Config scratch;
  absl::Status set = SetField(*key, setting.value, &scratch);
  if (!set.ok()) {
    return absl::InvalidArgumentError(base::StrCat(flag.flag, ": ", set.message()));
  }
  return setting;
}

}  // namespace crispd
