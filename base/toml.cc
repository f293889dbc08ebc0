#include "base/toml.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/strings.h"

// Header-only and without exceptions: a parse error is a value, and no further shared library is
// loaded.
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include "toml++/toml.h"

namespace base {
namespace {

using Kind = TomlValue::Kind;

bool IsAscii(char c) { return (static_cast<unsigned char>(c) & 0x80) == 0; }

// How many bytes the UTF-8 sequence at the beginning of `text` has; 0 when it is none.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(0);
  const size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                                       : 4;
  if (length == 0 || first > 0xf4 || text.size() < length) {
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) {
      return 0;
    }
  }
  // Overlong forms, surrogates, and what is beyond U+10FFFF.
  const bool bad = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) ||
                   (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f);
  return bad ? 0 : length;
}

// The line of the first byte that is not UTF-8; 0 when there is none.
int FirstBadLine(std::string_view text) {
  int line = 1;
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8Length(text.substr(at));
    if (length == 0) {
      return line;
    }
    line += text[at] == '\n' ? 1 : 0;
    at += length;
  }
  return 0;
}

// toml++ 3.3 has undefined behaviour for some letters outside ASCII, so it does not get to see
// them: each of their bytes is written as a mark and two digits before the parse and read back
// afterwards. The mark is a character that the text has neither plainly nor as an escape, and that
// no bare key may hold.
class Ascii {
 public:
  // INVALID_ARGUMENT when the text has every mark.
  static absl::StatusOr<Ascii> Choose(std::string_view text) {
    if (std::all_of(text.begin(), text.end(), IsAscii)) {
      return Ascii(0);
    }
    const std::string lower = absl::AsciiStrToLower(ToAbsl(text));
    for (const char mark : std::string_view("~`^|!?;&")) {
      const std::string escape = base::StrCat("00", absl::Hex(mark, absl::kZeroPad2));
      if (text.find(mark) == std::string_view::npos && lower.find(escape) == std::string::npos) {
        return Ascii(mark);
      }
    }
    return absl::InvalidArgumentError("write letters outside ASCII as \\u escapes");
  }

  std::string Encode(std::string_view text) const {
    std::string out;
    for (const char c : text) {
      if (IsAscii(c)) {
        out += c;
      } else {
        out += base::StrCat(std::string(1, mark_),
                            absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
      }
    }
    return out;
  }

  std::string Decode(std::string_view text) const {
    std::string out;
    for (size_t at = 0; at < text.size(); ++at) {
      uint32_t byte = 0;
      if (mark_ != 0 && text[at] == mark_ &&
          absl::SimpleHexAtoi(ToAbsl(text.substr(at + 1, 2)), &byte)) {
        out += static_cast<char>(byte);
        at += 2;
      } else {
        out += text[at];
      }
    }
    return out;
  }

 private:
  explicit Ascii(char mark) : mark_(mark) {}

  char mark_;  // 0: nothing to do.
};

// Where something begins: line, column.
using Position = std::pair<uint32_t, uint32_t>;
constexpr Position kNowhere(std::numeric_limits<uint32_t>::max(), 0);

Position PositionOf(const toml::node& node) {
  const toml::source_position& begin = node.source().begin;
  return begin.line == 0 ? kNowhere : Position(begin.line, begin.column);
}

TomlValue ToValue(const toml::node& node, const Ascii& ascii, Position* first);

void ReadTable(const toml::table& table, const Ascii& ascii, Position* first, TomlValue* value) {
  std::vector<std::pair<Position, TomlMember>> members;
  for (auto&& [key, node] : table) {
    Position position = kNowhere;
    TomlValue member = ToValue(node, ascii, &position);
    members.emplace_back(position, TomlMember{ascii.Decode(key.str()), std::move(member)});
    *first = std::min(*first, position);
  }
  // toml++ keeps them by name.
  std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second.key) < std::tie(b.first, b.second.key);
  });
  for (auto& [position, member] : members) {
    value->members.push_back(std::move(member));
  }
}

// Sets `first` to where the value or something in it begins.
TomlValue ToValue(const toml::node& node, const Ascii& ascii, Position* first) {
  TomlValue value;
  value.line = static_cast<int>(node.source().begin.line);
  *first = PositionOf(node);
  if (const toml::table* table = node.as_table()) {
    value.kind = Kind::kTable;
    ReadTable(*table, ascii, first, &value);
  } else if (const toml::array* array = node.as_array()) {
    value.kind = Kind::kArray;
    for (const toml::node& element : *array) {
      Position position = kNowhere;
      value.elements.push_back(ToValue(element, ascii, &position));
      *first = std::min(*first, position);
    }
  } else if (node.is_string()) {
    value.kind = Kind::kString;
    value.text = ascii.Decode(node.as_string()->get());
  } else if (node.is_boolean()) {
    value.kind = Kind::kBoolean;
    value.boolean = node.as_boolean()->get();
  } else if (node.is_integer()) {
    value.kind = Kind::kInteger;
    value.integer = node.as_integer()->get();
  } else {
    value.kind = node.is_floating_point() ? Kind::kFloat : Kind::kDateOrTime;
  }
  return value;
}

absl::Status InvalidAt(std::string_view name, int line, std::string_view why) {
  return absl::InvalidArgumentError(line > 0 ? base::StrCat(name, ":", line, ": ", why)
                                             : base::StrCat(name, ": ", why));
}

}  // namespace

const TomlValue* TomlValue::Find(std::string_view key) const {
  const auto found = std::find_if(members.begin(), members.end(),
                                  [&](const TomlMember& member) { return member.key == key; });
  return found == members.end() ? nullptr : &found->value;
}

bool TomlValue::IsTableArray() const {
  return kind == Kind::kArray && std::all_of(elements.begin(), elements.end(),
                                             [](const TomlValue& one) { return one.IsTable(); });
}

std::string_view TomlValue::TypeName() const {
  static constexpr std::string_view kNames[] = {
      "a boolean", "an integer", "a float", "a string", "a date or time", "a list", "a table"};
  return kNames[static_cast<size_t>(kind)];
}

absl::StatusOr<TomlValue> ParseToml(std::string_view text, std::string_view name) {
  if (const int line = FirstBadLine(text); line != 0) {
    return InvalidAt(name, line, "the text is not UTF-8");
  }
  const absl::StatusOr<Ascii> ascii = Ascii::Choose(text);
  if (!ascii.ok()) {
    return InvalidAt(name, 0, ToStd(ascii.status().message()));
  }
  const toml::parse_result result = toml::parse(ascii->Encode(text));
  if (!result) {
    const toml::parse_error& error = result.error();
    return InvalidAt(name, static_cast<int>(error.source().begin.line), error.description());
  }
  Position first = kNowhere;
  return ToValue(result.table(), *ascii, &first);
}

const TomlValue* TomlReader::Any(std::string_view key) {
  asked_.emplace(key);
  return table_.Find(key);
}

absl::Status TomlReader::Boolean(std::string_view key, bool* value) {
  const TomlValue* member = Any(key);
  if (member == nullptr) {
    return absl::OkStatus();
  }
  if (member->kind != Kind::kBoolean) {
    return WrongType(key, "true or false");
  }
  *value = member->boolean;
  return absl::OkStatus();
}

absl::Status TomlReader::String(std::string_view key, std::string* value) {
  const TomlValue* member = Any(key);
  if (member == nullptr) {
    return absl::OkStatus();
  }
  if (member->kind != Kind::kString) {
    return WrongType(key, "a string");
  }
  *value = member->text;
  return absl::OkStatus();
}

absl::Status TomlReader::Strings(std::string_view key, std::vector<std::string>* value) {
  const TomlValue* member = Any(key);
  if (member == nullptr) {
    return absl::OkStatus();
  }
  if (member->kind != Kind::kArray) {
    return WrongType(key, "a list of strings");
  }
  std::vector<std::string> strings;
  for (const TomlValue& element : member->elements) {
    if (element.kind != Kind::kString) {
      return Invalid(key,
                     base::StrCat(key, " holds ", element.TypeName(), ", want a list of strings"));
    }
    strings.push_back(element.text);
  }
  *value = std::move(strings);
  return absl::OkStatus();
}

absl::Status TomlReader::StringOrStrings(std::string_view key, std::vector<std::string>* value) {
  const TomlValue* member = Any(key);
  if (member != nullptr && member->kind == Kind::kString) {
    *value = {member->text};
    return absl::OkStatus();
  }
  return Strings(key, value);
}

absl::StatusOr<const TomlValue*> TomlReader::Table(std::string_view key) {
  const TomlValue* member = Any(key);
  if (member != nullptr && !member->IsTable()) {
    return WrongType(key, "a table");
  }
  return member;
}

absl::StatusOr<std::vector<const TomlValue*>> TomlReader::Tables(std::string_view key) {
  std::vector<const TomlValue*> tables;
  const TomlValue* member = Any(key);
  if (member == nullptr) {
    return tables;
  }
  if (!member->IsTableArray()) {
    return WrongType(key, base::StrCat("a list of tables ([[", key, "]])"));
  }
  for (const TomlValue& element : member->elements) {
    tables.push_back(&element);
  }
  return tables;
}

absl::Status TomlReader::Invalid(std::string_view key, std::string_view why) const {
  const TomlValue* member = table_.Find(key);
  return InvalidAt(name_, member != nullptr && member->line > 0 ? member->line : table_.line, why);
}

absl::Status TomlReader::WrongType(std::string_view key, std::string_view wanted) const {
  return Invalid(key, base::StrCat(key, " is ", table_.Find(key)->TypeName(), ", want ", wanted));
}

std::vector<std::string> TomlReader::UnknownKeys() const {
  std::vector<std::string> unknown;
  for (const auto& [key, value] : table_.members) {
    if (!asked_.contains(key)) {
      unknown.emplace_back(Invalid(key, base::StrCat("unknown key \"", key, "\"")).message());
    }
  }
  return unknown;
}

}  // namespace base
