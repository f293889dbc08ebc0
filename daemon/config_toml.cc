#include "daemon/config_toml.h"

#include <algorithm>
#include <tuple>

#include "base/strings.h"

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include "toml++/toml.h"

namespace crispd {
namespace {

// Fills value or foreign_type.
void Read(const toml::node& node, TomlSetting* setting) {
  if (node.is_boolean()) {
    setting->value = ConfigValue(**node.as_boolean());
  } else if (node.is_integer()) {
    setting->value = ConfigValue(**node.as_integer());
  } else if (node.is_string()) {
    setting->value = ConfigValue(**node.as_string());
  } else if (const toml::array* array = node.as_array()) {
    std::vector<std::string> list;
    for (const toml::node& element : *array) {
      if (!element.is_string()) {
        setting->foreign_type = "a list of other things";
        return;
      }
      list.push_back(**element.as_string());
    }
    setting->value = ConfigValue(std::move(list));
  } else if (node.is_floating_point()) {
    setting->foreign_type = "a float";
  } else {
    setting->foreign_type = "a date or time";
  }
}

void Flatten(const toml::table& table, std::vector<std::string>* path,
             std::vector<TomlSetting>* settings) {
  for (auto&& [key, node] : table) {
    path->emplace_back(key.str());
    TomlSetting setting;
    setting.path = *path;
    setting.line = static_cast<int>(node.source().begin.line);
    const toml::table* below = node.as_table();
    if (below == nullptr) {
      Read(node, &setting);
      settings->push_back(std::move(setting));
    } else {
      // A table written by its children's headers alone has no text of its own.
      if (setting.line > 0) {
        settings->push_back(std::move(setting));
      }
      Flatten(*below, path, settings);
    }
    path->pop_back();
  }
}

}  // namespace

absl::StatusOr<std::vector<TomlSetting>> ParseToml(std::string_view text, std::string_view name) {
  const toml::parse_result result = toml::parse(text, name);
  if (!result) {
    const toml::parse_error& error = result.error();
    return absl::InvalidArgumentError(
        base::StrCat(name, ":", error.source().begin.line, ": ", error.description()));
  }
  std::vector<TomlSetting> settings;
  std::vector<std::string> path;
  Flatten(result.table(), &path, &settings);
  // Two on one line by their names. (libstdc++'s stable_sort uses what clang calls deprecated.)
  std::sort(settings.begin(), settings.end(), [](const TomlSetting& a, const TomlSetting& b) {
    return std::tie(a.line, a.path) < std::tie(b.line, b.path);
  });
  return settings;
}

}  // namespace crispd
