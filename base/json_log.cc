#include "base/json_log.h"

#include <vector>

#include "absl/strings/str_split.h"
#include "base/json.h"
#include "base/strings.h"

namespace base {

std::string LastLogError(std::string_view log) {
  std::string last;
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(ToAbsl(log), '\n', absl::SkipEmpty()))) {
    // Some runtimes do not end their lines: of several in one the last counts.
    absl::StatusOr<Json> entry = ParseJson(line);
    if (const size_t joint = line.rfind("}{"); !entry.ok() && joint != std::string::npos) {
      entry = ParseJson(line.substr(joint + 1));
    }
    if (!entry.ok()) {
      continue;
    }
    const std::string level = JsonString(*entry, "level").value_or("");
    const std::string message = JsonString(*entry, "msg").value_or("");
    if ((level == "error" || level == "fatal" || level == "panic") && !message.empty()) {
      last = message.substr(0, message.find_last_not_of("\n ") + 1);
    }
  }
  return last;
}

}  // namespace base
