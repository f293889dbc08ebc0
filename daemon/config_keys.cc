#include "daemon/config_keys.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace crispd {
namespace {

absl::Status Invalid(std::string message) {
  return absl::InvalidArgumentError(base::ToAbsl(message));
}

bool IsBareKey(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
  });
}

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += base::StrCat("\\u", absl::Hex(byte, absl::kZeroPad4));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string ToToml(bool value) { return value ? "true" : "false"; }
std::string ToToml(int64_t value) { return base::StrCat(value); }
std::string ToToml(const std::string& value) { return Quoted(value); }
std::string ToToml(const std::vector<std::string>& value) {
  return base::StrCat(
      "[",
      absl::StrJoin(value, ", ",
                    [](std::string* out, const std::string& text) { *out += Quoted(text); }),
      "]");
}

}  // namespace

template <typename Owner>
std::string ConfigKey<Owner>::Dotted() const {
  return table.empty() ? std::string(name) : base::StrCat(table, ".", name);
}
template struct ConfigKey<Config>;
template struct ConfigKey<RuntimeHandler>;

std::string HandlerKey(std::string_view handler, std::string_view key) {
  const std::string name = IsBareKey(handler) ? std::string(handler) : Quoted(handler);
  return base::StrCat(kHandlersTable, ".", name, key.empty() ? "" : ".", key);
}

bool IsConfigTable(std::string_view dotted) {
  const std::string below = base::StrCat(dotted, ".");
  return std::any_of(ConfigKeys().begin(), ConfigKeys().end(),
                     [&](const ConfigKey<Config>& key) {
                       return key.table == dotted || key.table.starts_with(below);
                     }) ||
         dotted == kHandlersTable;
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] =
          std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    before.swap(last);
    last.swap(row);
  }
  return last[b.size()];
}

std::string NearestWord(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string NearestKey(std::string_view dotted) {
  const size_t dot = dotted.rfind('.');
  const std::string_view name = dot == std::string_view::npos ? dotted : dotted.substr(dot + 1);
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  const auto consider = [&](const std::string& candidate, std::string_view candidate_name) {
    size_t distance = EditDistance(dotted, candidate);
    if (candidate_name == name) {
      distance = std::min<size_t>(distance, 1);  // The right name in a wrong table.
    }
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  };
  for (const ConfigKey<Config>& key : ConfigKeys()) {
    consider(key.Dotted(), key.name);
    consider(std::string(key.table), "");
  }
  consider(std::string(kHandlersTable), "");
  // Below a handler's table its keys are the ones at hand.
  const std::string handlers = base::StrCat(kHandlersTable, ".");
  if (dotted.starts_with(handlers) && dot > handlers.size()) {
    for (const ConfigKey<RuntimeHandler>& key : HandlerKeys()) {
      consider(base::StrCat(dotted.substr(0, dot + 1), key.name), key.name);
    }
  }
  return best;
}

namespace {

// Assigns `value` to `out` if the type fits.
template <typename T>
bool Assign(const ConfigValue& value, T* out) {
  if (const T* held = std::get_if<T>(&value)) {
    *out = *held;
    return true;
  }
  return false;
}
template <typename Owner>
absl::Status CheckValue(const ConfigKey<Owner>& key, const ConfigValue& value) {
  if (const auto* number = std::get_if<int64_t>(&value); number && key.check_number != nullptr) {
    return key.check_number(*number);
  }
  if (key.check_text == nullptr) return absl::OkStatus();
  if (const auto* text = std::get_if<std::string>(&value)) return key.check_text(*text);
  if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
    for (const std::string& text : *list) {
      RETURN_IF_ERROR(key.check_text(text));
    }
  }
  return absl::OkStatus();
}

}  // namespace

template <typename Owner>
absl::Status SetField(const ConfigKey<Owner>& key, const ConfigValue& value, Owner* owner) {
  static constexpr std::string_view kGot[] = {"a boolean", "an integer", "a string", "a list"};
  return std::visit(
      [&](auto member) -> absl::Status {
        std::decay_t<decltype(owner->*member)> parsed{};
        if (!Assign(value, &parsed)) {
          return Invalid(
              base::StrCat("want ", WantedType<Owner>(key.field), ", got ", kGot[value.index()]));
        }
        RETURN_IF_ERROR(CheckValue(key, value));
        owner->*member = std::move(parsed);
        return absl::OkStatus();
      },
      key.field);
}
template absl::Status SetField(const ConfigKey<Config>&, const ConfigValue&, Config*);
template absl::Status SetField(const ConfigKey<RuntimeHandler>&, const ConfigValue&,
                               RuntimeHandler*);

template <typename Owner>
std::string FormatField(const ConfigKey<Owner>& key, const Owner& owner) {
  return std::visit([&](auto member) { return ToToml(owner.*member); }, key.field);
}
template std::string FormatField(const ConfigKey<Config>&, const Config&);
template std::string FormatField(const ConfigKey<RuntimeHandler>&, const RuntimeHandler&);

}  // namespace crispd
