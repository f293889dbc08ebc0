// The door to nlohmann/json: parsing and access that return a status and never throw.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace base {

using Json = nlohmann::json;
// Keeps the order of its members: for documents that people read.
using OrderedJson = nlohmann::ordered_json;

// What of an object that has two members of one name.
enum class DuplicateMembers { kLastWins, kRefuse };

// The document in `text`; INVALID_ARGUMENT with the position for anything else, for nesting deeper
// than 128 levels, for more than two million values (what a document takes in memory is many times
// its text), for text that is not UTF-8, and for duplicates that are refused.
absl::StatusOr<Json> ParseJson(std::string_view text,
                               DuplicateMembers duplicates = DuplicateMembers::kLastWins);

// One line of JSON. Bytes that are not UTF-8 become U+FFFD.
std::string DumpJson(const Json& value);
std::string DumpJson(const OrderedJson& value);

// The member `key` of `object`, or the fallback when it is absent or null; INVALID_ARGUMENT when it
// has another type or `object` is none.
absl::StatusOr<std::string> JsonString(const Json& object, std::string_view key,
                                       std::string_view fallback = "");
absl::StatusOr<int64_t> JsonInt(const Json& object, std::string_view key, int64_t fallback = 0);
absl::StatusOr<bool> JsonBool(const Json& object, std::string_view key, bool fallback = false);
absl::StatusOr<std::vector<std::string>> JsonStrings(const Json& object, std::string_view key);
absl::StatusOr<std::map<std::string, std::string>> JsonStringMap(const Json& object,
                                                                 std::string_view key);

// The member `key`, or null when it is absent or `object` is no object. Never fails.
const Json& JsonMember(const Json& object, std::string_view key);

}  // namespace base
