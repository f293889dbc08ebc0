// A TOML file as a flat list of settings with their lines.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/config.h"

namespace crispd {

// One key of a file, or one table header (which may have no keys).
struct TomlSetting {
  std::vector<std::string> path;
  // Nothing for a table.
  std::variant<std::monostate, ConfigValue> value;
  // The type's name with its article when it is one no key has ("a float", "a mixed list", …).
  std::string foreign_type;
  int line = 0;
};

// The settings of `text` in the order of their lines. INVALID_ARGUMENT, beginning with "NAME:LINE:
// ", for what is no TOML.
absl::StatusOr<std::vector<TomlSetting>> ParseToml(std::string_view text, std::string_view name);

}  // namespace crispd
