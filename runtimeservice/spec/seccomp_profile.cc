// From profiles to plain OCI: the RuntimeDefault table and the superset format of files.
#include <sys/types.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/seccomp.h"

namespace runtimeservice {
namespace {

using base::Json;
using base::OrderedJson;

constexpr int kEnosys = 38;
constexpr int kMaxArguments = 6;

struct DefaultArgument {
  unsigned index = 0;
  const char* op = nullptr;  // Null: no argument.
  uint64_t value = 0;
  uint64_t value_two = 0;
};

struct DefaultRule {
  const char* names;        // Separated by spaces.
  int error;                // 0: allowed.
  const char* arches;       // Condition, separated by commas; "!" in front: any other one.
  const char* cap_needed;   // Condition.
  const char* caps_absent;  // Condition, separated by commas.
  DefaultArgument arguments[2];
};

constexpr DefaultRule kDefaultRules[] = {
#include "runtimeservice/spec/default_seccomp_table.inc"
};

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    pieces.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pieces;
}

bool Contains(const std::vector<std::string>& list, std::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool Applies(const DefaultRule& rule, const SeccompTarget& target) {
  std::string_view arches = rule.arches;
  const bool others = !arches.empty() && arches.front() == '!';
  arches.remove_prefix(others ? 1 : 0);
  if (!arches.empty() && Contains(Split(arches, ','), target.architecture) == others) {
    return false;
  }
  if (*rule.cap_needed != '\0' && !Contains(target.capabilities, rule.cap_needed)) {
    return false;
  }
  const std::vector<std::string> absent = Split(rule.caps_absent, ',');
  return std::none_of(absent.begin(), absent.end(), [&target](const std::string& name) {
    return Contains(target.capabilities, name);
  });
}

OrderedJson DefaultRuleJson(const DefaultRule& rule) {
  OrderedJson json = {{"names", Split(rule.names, ' ')},
                      {"action", rule.error == 0 ? "SCMP_ACT_ALLOW" : "SCMP_ACT_ERRNO"}};
  if (rule.error != 0) {
    json["errnoRet"] = rule.error;
  }
  for (const DefaultArgument& argument : rule.arguments) {
    if (argument.op != nullptr) {
      json["args"].push_back({{"index", argument.index},
                              {"value", argument.value},
                              {"valueTwo", argument.value_two},
                              {"op", argument.op}});
    }
  }
  return json;
}

// What else a process may call by, besides the native architecture.
std::vector<std::string> Architectures(const std::string& native) {
  if (native == "amd64") return {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  if (native == "386") return {"SCMP_ARCH_X86"};
  if (native == "arm64") return {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"};
  if (native == "arm") return {"SCMP_ARCH_ARM"};
  if (native == "s390x") return {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"};
  if (native == "ppc64le") return {"SCMP_ARCH_PPC64LE"};
  if (native == "riscv64") return {"SCMP_ARCH_RISCV64"};
  if (native == "loong64") return {"SCMP_ARCH_LOONGARCH64"};
  return {};
}

absl::Status Invalid(std::string_view what) {
  return absl::InvalidArgumentError(base::ToAbsl(what));
}

template <size_t kSize>
absl::Status CheckWord(const std::string& word, const std::string_view (&words)[kSize],
                       std::string_view what) {
  if (std::find(std::begin(words), std::end(words), word) == std::end(words)) {
    return Invalid(base::StrCat(what, " \"", word, "\" is unknown"));
  }
  return absl::OkStatus();
}

constexpr std::string_view kActions[] = {
    "SCMP_ACT_ALLOW",        "SCMP_ACT_ERRNO",       "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP",
    "SCMP_ACT_TRACE",        "SCMP_ACT_LOG",         "SCMP_ACT_NOTIFY"};
constexpr std::string_view kOperators[] = {"SCMP_CMP_NE",       "SCMP_CMP_LT", "SCMP_CMP_LE",
                                           "SCMP_CMP_EQ",       "SCMP_CMP_GE", "SCMP_CMP_GT",
                                           "SCMP_CMP_MASKED_EQ"};
constexpr std::string_view kFlags[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                                       "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                       "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
constexpr std::string_view kArchitectures[] = {
    "SCMP_ARCH_X86",     "SCMP_ARCH_X86_64",   "SCMP_ARCH_X32",         "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS",     "SCMP_ARCH_MIPS64",      "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",   "SCMP_ARCH_PPC64LE",  "SCMP_ARCH_S390",        "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",  "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64",     "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",    "SCMP_ARCH_SH",       "SCMP_ARCH_SHEB"};

// The errno in `number_key`, or by name in `name_key`; nothing if neither is there.
absl::StatusOr<std::optional<int64_t>> Errno(const Json& object, const char* number_key,
                                             const char* name_key) {
  constexpr int64_t kMaxErrno = 4095;
  if (!base::JsonMember(object, number_key).is_null()) {
    ASSIGN_OR_RETURN(const int64_t number, base::JsonInt(object, number_key));
    if (number < 0 || number > kMaxErrno) {
      return Invalid(base::StrCat(number_key, " ", number, " is no errno"));
    }
    return std::optional<int64_t>(number);
  }
  ASSIGN_OR_RETURN(const std::string name, base::JsonString(object, name_key));
  if (name.empty()) {
    return std::optional<int64_t>();
  }
  for (int number = 1; number < 256; ++number) {
    const char* known = strerrorname_np(number);
    if (known != nullptr && name == known) {
      return std::optional<int64_t>(number);
    }
  }
  return Invalid(base::StrCat(name_key, " \"", name, "\" is unknown"));
}

absl::StatusOr<uint64_t> Unsigned(const Json& object, const char* key) {
  const Json& value = base::JsonMember(object, key);
  if (value.is_null()) {
    return 0;
  }
  if (!value.is_number_unsigned()) {
    return Invalid(base::StrCat(key, " is not an unsigned number"));
  }
  return value.get<uint64_t>();
}

absl::StatusOr<OrderedJson> Argument(const Json& argument) {
  ASSIGN_OR_RETURN(const uint64_t index, Unsigned(argument, "index"));
  ASSIGN_OR_RETURN(const uint64_t value, Unsigned(argument, "value"));
  ASSIGN_OR_RETURN(const uint64_t value_two, Unsigned(argument, "valueTwo"));
  ASSIGN_OR_RETURN(const std::string op, base::JsonString(argument, "op"));
  RETURN_IF_ERROR(CheckWord(op, kOperators, "op"));
  if (index >= kMaxArguments) {
    return Invalid(base::StrCat("index ", index, " is beyond the last argument"));
  }
  return OrderedJson({{"index", index}, {"value", value}, {"valueTwo", value_two}, {"op", op}});
}

// A rule's "includes" or "excludes".
struct Conditions {
  std::vector<std::string> capabilities;
  std::vector<std::string> architectures;
  std::optional<KernelVersion> min_kernel;
};

absl::StatusOr<Conditions> ParseConditions(const Json& filter) {
  Conditions conditions;
  if (filter.is_null()) {
    return conditions;
  }
  ASSIGN_OR_RETURN(conditions.capabilities, base::JsonStrings(filter, "caps"));
  ASSIGN_OR_RETURN(conditions.architectures, base::JsonStrings(filter, "arches"));
  ASSIGN_OR_RETURN(const std::string kernel, base::JsonString(filter, "minKernel"));
  if (kernel.empty()) {
    return conditions;
  }
  KernelVersion version;
  char rest = 0;
  if (sscanf(kernel.c_str(), "%d.%d%c", &version.major, &version.minor, &rest) != 2) {
    return Invalid(base::StrCat("minKernel \"", kernel, "\" is not MAJOR.MINOR"));
  }
  conditions.min_kernel = version;
  return conditions;
}

absl::StatusOr<bool> Applies(const Json& rule, const SeccompTarget& target) {
  ASSIGN_OR_RETURN(const Conditions includes, ParseConditions(base::JsonMember(rule, "includes")));
  ASSIGN_OR_RETURN(const Conditions excludes, ParseConditions(base::JsonMember(rule, "excludes")));
  const auto held = [&target](const std::string& name) {
    return Contains(target.capabilities, name);
  };
  const bool included =
      std::all_of(includes.capabilities.begin(), includes.capabilities.end(), held) &&
      (includes.architectures.empty() || Contains(includes.architectures, target.architecture)) &&
      (!includes.min_kernel.has_value() || target.kernel >= *includes.min_kernel);
  const bool excluded =
      std::any_of(excludes.capabilities.begin(), excludes.capabilities.end(), held) ||
      Contains(excludes.architectures, target.architecture) ||
      (excludes.min_kernel.has_value() && target.kernel >= *excludes.min_kernel);
  return included && !excluded;
}

absl::StatusOr<std::vector<std::string>> RuleNames(const Json& rule) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, base::JsonStrings(rule, "names"));
  ASSIGN_OR_RETURN(const std::string name, base::JsonString(rule, "name"));
  if (!name.empty() && !names.empty()) {
    return Invalid("both name and names");
  }
  if (!name.empty()) {
    names.push_back(name);
  }
  if (names.empty() || Contains(names, "")) {
    return Invalid("a rule without a name");
  }
  return names;
}

// libseccomp takes one condition per argument and rule. Two on the same one mean "or": a rule each.
void AppendRules(OrderedJson rule, const std::vector<OrderedJson>& arguments, OrderedJson* rules) {
  bool repeated = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      repeated = repeated || arguments[i]["index"] == arguments[j]["index"];
    }
  }
  if (!repeated) {
    if (!arguments.empty()) {
      rule["args"] = arguments;
    }
    rules->push_back(std::move(rule));
    return;
  }
  for (const OrderedJson& argument : arguments) {
    rule["args"] = OrderedJson::array({argument});
    rules->push_back(rule);
  }
}

absl::Status ExpandRule(const Json& rule, const SeccompTarget& target, OrderedJson* rules) {
  if (!rule.is_object()) {
    return Invalid("not an object");
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> names, RuleNames(rule));
  ASSIGN_OR_RETURN(const std::string action, base::JsonString(rule, "action"));
  RETURN_IF_ERROR(CheckWord(action, kActions, "action"));
  ASSIGN_OR_RETURN(const std::optional<int64_t> error, Errno(rule, "errnoRet", "errno"));
  std::vector<OrderedJson> arguments;
  const Json& args = base::JsonMember(rule, "args");
  if (!args.is_null() && !args.is_array()) {
    return Invalid("args is not an array");
  }
  for (const Json& argument : args) {
    ASSIGN_OR_RETURN(OrderedJson expanded, Argument(argument));
    arguments.push_back(std::move(expanded));
  }
  ASSIGN_OR_RETURN(const bool applies, Applies(rule, target));
  if (!applies) {
    return absl::OkStatus();
  }
  OrderedJson expanded = {{"names", names}, {"action", action}};
  if (error.has_value()) {
    expanded["errnoRet"] = *error;
  }
  AppendRules(std::move(expanded), arguments, rules);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ExpandArchitectures(const Json& profile,
                                                             const SeccompTarget& target) {
  ASSIGN_OR_RETURN(std::vector<std::string> result, base::JsonStrings(profile, "architectures"));
  const Json& map = base::JsonMember(profile, "archMap");
  if (map.is_null() || map.empty()) {
    return result;
  }
  if (!result.empty() || !map.is_array()) {
    return Invalid("archMap beside architectures, or not an array");
  }
  const std::vector<std::string> native = Architectures(target.architecture);
  for (const Json& entry : map) {
    ASSIGN_OR_RETURN(const std::string architecture, base::JsonString(entry, "architecture"));
    ASSIGN_OR_RETURN(const std::vector<std::string> sub,
                     base::JsonStrings(entry, "subArchitectures"));
    if (!native.empty() && architecture == native.front()) {
      result.push_back(architecture);
      result.insert(result.end(), sub.begin(), sub.end());
    }
  }
  return result;
}

}  // namespace

OrderedJson DefaultSeccompProfile(const SeccompTarget& target) {
  OrderedJson profile = {{"defaultAction", "SCMP_ACT_ERRNO"}, {"defaultErrnoRet", kEnosys}};
  const std::vector<std::string> architectures = Architectures(target.architecture);
  if (!architectures.empty()) {
    profile["architectures"] = architectures;
  }
  OrderedJson& rules = profile["syscalls"] = OrderedJson::array();
  for (const DefaultRule& rule : kDefaultRules) {
    if (Applies(rule, target)) {
      rules.push_back(DefaultRuleJson(rule));
    }
  }
  return profile;
}

absl::StatusOr<OrderedJson> ExpandSeccompProfile(const Json& profile, const SeccompTarget& target) {
  if (!profile.is_object()) {
    return Invalid("the profile is not an object");
  }
  ASSIGN_OR_RETURN(const std::string action, base::JsonString(profile, "defaultAction"));
  RETURN_IF_ERROR(CheckWord(action, kActions, "defaultAction"));
  OrderedJson result = {{"defaultAction", action}};
  ASSIGN_OR_RETURN(const std::optional<int64_t> error,
                   Errno(profile, "defaultErrnoRet", "defaultErrno"));
  if (error.has_value()) {
    result["defaultErrnoRet"] = *error;
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> architectures,
                   ExpandArchitectures(profile, target));
  for (const std::string& architecture : architectures) {
    RETURN_IF_ERROR(CheckWord(architecture, kArchitectures, "architecture"));
    result["architectures"].push_back(architecture);
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> flags, base::JsonStrings(profile, "flags"));
  for (const std::string& flag : flags) {
    RETURN_IF_ERROR(CheckWord(flag, kFlags, "flag"));
    result["flags"].push_back(flag);
  }
  for (const char* key : {"listenerPath", "listenerMetadata"}) {
    ASSIGN_OR_RETURN(const std::string value, base::JsonString(profile, key));
    if (!value.empty()) {
      result[key] = value;
    }
  }
  const Json& rules = base::JsonMember(profile, "syscalls");
  if (!rules.is_null() && !rules.is_array()) {
    return Invalid("syscalls is not an array");
  }
  result["syscalls"] = OrderedJson::array();
  for (size_t i = 0; i < rules.size(); ++i) {
    RETURN_IF_ERROR(base::Annotate(ExpandRule(rules[i], target, &result["syscalls"]),
                                   base::StrCat("syscalls[", i, "]")));
  }
  return result;
}

}  // namespace runtimeservice
