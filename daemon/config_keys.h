// The one table of configuration keys. Parsing, `crisp config`, the template and the command line's
// flags are all made from it, so they cannot disagree.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "daemon/config.h"

namespace crispd {

template <typename Owner>
using ConfigField = std::variant<bool Owner::*, int64_t Owner::*, std::string Owner::*,
                                 std::vector<std::string> Owner::*>;

// One key of a table that `Owner` holds.
template <typename Owner>
struct ConfigKey {
  std::string_view table;  // "crisp.api"; empty for the keys of a runtime handler.
  std::string_view name;
  ConfigField<Owner> field;
  std::string_view help;
  // The flag where it is not the name with dashes: CRI-O's, or the singular of a list.
  std::string_view flag = "";
  // What else must hold for each text of the value or for the number; null: nothing.
  absl::Status (*check_text)(std::string_view text) = nullptr;
  absl::Status (*check_number)(int64_t number) = nullptr;

  std::string Dotted() const;
};

// In the order in which they are printed; the keys of one table stand together.
std::span<const ConfigKey<Config>> ConfigKeys();
std::span<const ConfigKey<RuntimeHandler>> HandlerKeys();
// Those of [crisp.runtime], and of [crisp.api] about streaming; among ConfigKeys() too.
std::span<const ConfigKey<Config>> RuntimeKeys();
std::span<const ConfigKey<Config>> StreamKeys();

// The table whose tables are runtime handlers.
inline constexpr std::string_view kHandlersTable = "crisp.runtime.runtimes";

// "crisp.runtime.runtimes.NAME.KEY", quoted as TOML needs it.
std::string HandlerKey(std::string_view handler, std::string_view key);

// Whether `dotted` is a table that some key lies in or below.
bool IsConfigTable(std::string_view dotted);

// The known key or table nearest to `dotted` by edit distance; empty when none is near.
std::string NearestKey(std::string_view dotted);

// The candidate nearest to `word` by edit distance; empty when none is near.
std::string NearestWord(std::string_view word, const std::vector<std::string>& candidates);

// Levenshtein's distance, with a swap of neighbours counted as one edit.
size_t EditDistance(std::string_view a, std::string_view b);

// What the field holds, for messages: "a string", "an integer", …
template <typename Owner>
std::string_view WantedType(const ConfigField<Owner>& field) {
  static constexpr std::string_view kNames[] = {"a boolean", "an integer", "a string",
                                                "a list of strings"};
  return kNames[field.index()];
}

// Sets the field of `owner` from `value` once type and checks pass, else INVALID_ARGUMENT.
template <typename Owner>
absl::Status SetField(const ConfigKey<Owner>& key, const ConfigValue& value, Owner* owner);

// The value as TOML.
template <typename Owner>
std::string FormatField(const ConfigKey<Owner>& key, const Owner& owner);

}  // namespace crispd
