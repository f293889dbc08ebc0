#include "runtimeservice/devices/oci_hook.h"

#include <algorithm>
#include <iterator>

#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr std::string_view kStages[] = {"prestart",       "createRuntime", "createContainer",
                                        "startContainer", "poststart",     "poststop"};

bool HasNul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

}  // namespace

bool IsHookStage(std::string_view stage) {
  return std::find(std::begin(kStages), std::end(kStages), stage) != std::end(kStages);
}

absl::Status CheckEnvironment(const std::vector<std::string>& env) {
  for (const std::string& entry : env) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0 || HasNul(entry)) {
      return absl::InvalidArgumentError(base::StrCat("\"env\": \"", entry, "\" is not NAME=value"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<OciHook> ReadOciHook(const base::Json& object) {
  OciHook hook;
  ASSIGN_OR_RETURN(hook.path, base::JsonString(object, "path"));
  if (hook.path.empty() || hook.path.front() != '/' || HasNul(hook.path)) {
    return absl::InvalidArgumentError(
        base::StrCat("\"path\": \"", hook.path, "\" is not an absolute path"));
  }
  ASSIGN_OR_RETURN(hook.args, base::JsonStrings(object, "args"));
  if (std::any_of(hook.args.begin(), hook.args.end(), HasNul)) {
    return absl::InvalidArgumentError("\"args\": one has a NUL");
  }
  ASSIGN_OR_RETURN(hook.env, base::JsonStrings(object, "env"));
  RETURN_IF_ERROR(CheckEnvironment(hook.env));
  if (!base::JsonMember(object, "timeout").is_null()) {
    ASSIGN_OR_RETURN(hook.timeout_seconds, base::JsonInt(object, "timeout"));
    if (*hook.timeout_seconds <= 0 || *hook.timeout_seconds > INT32_MAX) {
      return absl::InvalidArgumentError("\"timeout\" is not a number of seconds above 0");
    }
  }
  return hook;
}

void AddOciHook(const OciHook& hook, const std::string& stage, base::OrderedJson* spec) {
  base::OrderedJson entry = {{"path", hook.path}};
  if (!hook.args.empty()) {
    entry["args"] = hook.args;
  }
  if (!hook.env.empty()) {
    entry["env"] = hook.env;
  }
  if (hook.timeout_seconds.has_value()) {
    entry["timeout"] = *hook.timeout_seconds;
  }
  (*spec)["hooks"][stage].push_back(std::move(entry));
}

}  // namespace runtimeservice
