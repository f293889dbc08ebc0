#include "base/json.h"

#include <set>

#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

constexpr int kMaxDepth = 128;
// A value takes up to 60 bytes where its text takes two.
constexpr size_t kMaxValues = 2'000'000;

absl::Status WrongType(std::string_view key, std::string_view wanted, const Json& value) {
  return absl::InvalidArgumentError(
      StrCat("\"", key, "\" is ", value.type_name(), ", ", wanted, " is wanted"));
}

// The member, null when absent; INVALID_ARGUMENT when `object` is no object.
absl::StatusOr<const Json*> Find(const Json& object, std::string_view key) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        StrCat("an object with \"", key, "\" is wanted, not ", object.type_name()));
  }
  return &JsonMember(object, key);
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, DuplicateMembers duplicates) {
  bool too_deep = false;
  size_t values = 0;
  std::string duplicate;
  std::vector<std::set<std::string>> names;  // Of each object that is open.
  try {
    const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
      too_deep = too_deep || depth > kMaxDepth;
      values += event == Json::parse_event_t::value || event == Json::parse_event_t::array_start ||
                        event == Json::parse_event_t::object_start
                    ? 1
                    : 0;
      const bool refused = too_deep || values > kMaxValues;
      if (refused || duplicates == DuplicateMembers::kLastWins) {
        return !refused;
      }
      if (event == Json::parse_event_t::object_start) {
        names.emplace_back();
      } else if (event == Json::parse_event_t::object_end) {
        names.pop_back();
      } else if (event == Json::parse_event_t::key) {
        const std::string& name = parsed.get_ref<const std::string&>();
        if (!names.back().insert(name).second && duplicate.empty()) {
          duplicate = StrCat("\"", name, "\" is there twice");
        }
      }
      return true;
    };
    Json value = Json::parse(text.begin(), text.end(), watch);
    if (too_deep) {
      return absl::InvalidArgumentError("JSON nested too deeply");
    }
    if (values > kMaxValues) {
      return absl::InvalidArgumentError(StrCat("JSON of more than ", kMaxValues, " values"));
    }
    if (!duplicate.empty()) {
      return absl::InvalidArgumentError(duplicate);
    }
    return value;
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

std::string DumpJson(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string DumpJson(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

const Json& JsonMember(const Json& object, std::string_view key) {
  static const Json* const null = new Json();
  if (!object.is_object()) {
    return *null;
  }
  const auto found = object.find(std::string(key));
  return found == object.end() ? *null : *found;
}

absl::StatusOr<std::string> JsonString(const Json& object, std::string_view key,
                                       std::string_view fallback) {
  ASSIGN_OR_RETURN(const Json* value, Find(object, key));
  if (value->is_null()) {
    return std::string(fallback);
  }
  if (!value->is_string()) {
    return WrongType(key, "a string", *value);
  }
  return value->get<std::string>();
}

absl::StatusOr<int64_t> JsonInt(const Json& object, std::string_view key, int64_t fallback) {
  ASSIGN_OR_RETURN(const Json* value, Find(object, key));
  if (value->is_null()) {
    return fallback;
  }
  if (!value->is_number_integer()) {
    return WrongType(key, "an integer", *value);
  }
  return value->get<int64_t>();
}

absl::StatusOr<bool> JsonBool(const Json& object, std::string_view key, bool fallback) {
  ASSIGN_OR_RETURN(const Json* value, Find(object, key));
  if (value->is_null()) {
    return fallback;
  }
  if (!value->is_boolean()) {
    return WrongType(key, "true or false", *value);
  }
  return value->get<bool>();
}

absl::StatusOr<std::vector<std::string>> JsonStrings(const Json& object, std::string_view key) {
  ASSIGN_OR_RETURN(const Json* value, Find(object, key));
  std::vector<std::string> strings;
  if (value->is_null()) {
    return strings;
  }
  if (!value->is_array()) {
    return WrongType(key, "a list of strings", *value);
  }
  for (const Json& element : *value) {
    if (!element.is_string()) {
      return WrongType(key, "a list of strings", element);
    }
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

absl::StatusOr<std::map<std::string, std::string>> JsonStringMap(const Json& object,
                                                                 std::string_view key) {
  ASSIGN_OR_RETURN(const Json* value, Find(object, key));
  std::map<std::string, std::string> strings;
  if (value->is_null()) {
    return strings;
  }
  if (!value->is_object()) {
    return WrongType(key, "an object of strings", *value);
  }
  for (const auto& [name, element] : value->items()) {
    if (!element.is_string()) {
      return WrongType(key, "an object of strings", element);
    }
    strings[name] = element.get<std::string>();
  }
  return strings;
}

}  // namespace base
