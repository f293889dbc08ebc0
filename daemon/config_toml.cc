#include "daemon/config_toml.h"

#include <algorithm>
#include <tuple>

#include "base/status_macros.h"
#include "base/toml.h"

namespace crispd {
namespace {

using Kind = base::TomlValue::Kind;

// Fills value or foreign_type.
void Read(const base::TomlValue& from, TomlSetting* setting) {
  switch (from.kind) {
    case Kind::kBoolean:
      setting->value = ConfigValue(from.boolean);
      return;
    case Kind::kInteger:
      setting->value = ConfigValue(from.integer);
      return;
    case Kind::kString:
      setting->value = ConfigValue(from.text);
      return;
    case Kind::kArray: {
      std::vector<std::string> list;
      for (const base::TomlValue& element : from.elements) {
        if (element.kind != Kind::kString) {
          setting->foreign_type = "a list of other things";
          return;
        }
        list.push_back(element.text);
      }
      setting->value = ConfigValue(std::move(list));
      return;
    }
    case Kind::kFloat:
    case Kind::kDateOrTime:
    case Kind::kTable:
      setting->foreign_type = from.TypeName();
  }
}

void Flatten(const base::TomlValue& table, std::vector<std::string>* path,
             std::vector<TomlSetting>* settings) {
  for (const auto& [key, value] : table.members) {
    path->push_back(key);
    TomlSetting setting;
    setting.path = *path;
    setting.line = value.line;
    if (!value.IsTable()) {
      Read(value, &setting);
      settings->push_back(std::move(setting));
    } else {
      // A table written by its children's headers alone has no text of its own.
      if (setting.line > 0) {
        settings->push_back(std::move(setting));
      }
      Flatten(value, path, settings);
    }
    path->pop_back();
  }
}

}  // namespace

absl::StatusOr<std::vector<TomlSetting>> ParseToml(std::string_view text, std::string_view name) {
  ASSIGN_OR_RETURN(const base::TomlValue root, base::ParseToml(text, name));
  std::vector<TomlSetting> settings;
  std::vector<std::string> path;
  Flatten(root, &path, &settings);
  // Two on one line by their names. (libstdc++'s stable_sort uses what clang calls deprecated.)
  std::sort(settings.begin(), settings.end(), [](const TomlSetting& a, const TomlSetting& b) {
    return std::tie(a.line, a.path) < std::tie(b.line, b.path);
  });
  return settings;
}

}  // namespace crispd
