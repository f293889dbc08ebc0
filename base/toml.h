// The door to toml++: a TOML document (toml.io, version 1.0.0) as plain values that remember their
// lines, and typed reads of them. Nothing throws.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace base {

struct TomlMember;

// A value of a document. Plain data; the kind says which of the others counts.
struct TomlValue {
  enum class Kind { kBoolean, kInteger, kFloat, kString, kDateOrTime, kArray, kTable };

  Kind kind = Kind::kTable;
  bool boolean = false;
  int64_t integer = 0;
  std::string text;
  std::vector<TomlValue> elements;  // Of an array.
  std::vector<TomlMember> members;  // Of a table, in the file's order.
  int line = 0;  // From 1 on; 0 for a table that only the headers of its sub-tables imply.

  // The member of that name; null when there is none or this is no table.
  const TomlValue* Find(std::string_view key) const;
  bool IsTable() const { return kind == Kind::kTable; }
  // Whether it is an array that holds nothing but tables ([[name]]).
  bool IsTableArray() const;
  // With its article, for messages: "an integer".
  std::string_view TypeName() const;
};

// One key of a table and what it stands for.
struct TomlMember {
  std::string key;
  TomlValue value;
};

// The document in `text`. INVALID_ARGUMENT, beginning with "NAME:LINE: ", for what is no TOML.
absl::StatusOr<TomlValue> ParseToml(std::string_view text, std::string_view name);

// Typed reads of the members of one table. An absent member leaves what it would fill untouched;
// one of another type is INVALID_ARGUMENT, with "NAME:LINE: " before every message. Borrows table
// and name.
class TomlReader {
 public:
  TomlReader(const TomlValue& table, std::string_view name) : table_(table), name_(name) {}

  absl::Status Boolean(std::string_view key, bool* value);
  absl::Status String(std::string_view key, std::string* value);
  absl::Status Strings(std::string_view key, std::vector<std::string>* value);
  // Also a single string, as a list of one.
  absl::Status StringOrStrings(std::string_view key, std::vector<std::string>* value);
  // Null when absent.
  absl::StatusOr<const TomlValue*> Table(std::string_view key);
  // The elements of [[key]]; empty when absent.
  absl::StatusOr<std::vector<const TomlValue*>> Tables(std::string_view key);
  // Of any type; null when absent.
  const TomlValue* Any(std::string_view key);

  // "NAME:LINE: why", with the line of the member `key` or, without that, of the table.
  absl::Status Invalid(std::string_view key, std::string_view why) const;
  // "NAME:LINE: unknown key "KEY"" for each member that nobody has asked for, for the log.
  std::vector<std::string> UnknownKeys() const;

 private:
  absl::Status WrongType(std::string_view key, std::string_view wanted) const;

  const TomlValue& table_;
  const std::string_view name_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace base
