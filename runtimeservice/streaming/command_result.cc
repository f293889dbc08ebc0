#include "runtimeservice/streaming/command_result.h"

#include "base/json.h"
#include "base/strings.h"

namespace streaming {

std::string StatusText(const CommandResult& result) {
  if (!result.status.ok()) {
    return std::string(base::ToStd(result.status.message()));
  }
  if (result.exit_code == 0) {
    return "";
  }
  return base::StrCat("command terminated with exit code ", result.exit_code,
                      result.remark.empty() ? "" : ": ", result.remark);
}

std::string StatusDocument(const CommandResult& result) {
  base::OrderedJson document;
  if (!result.status.ok()) {
    document["status"] = "Failure";
    document["message"] = StatusText(result);
    document["reason"] = "InternalError";
    document["code"] = 500;
  } else if (result.exit_code != 0) {
    document["status"] = "Failure";
    document["message"] = StatusText(result);
    document["reason"] = "NonZeroExitCode";
    base::OrderedJson cause;
    cause["reason"] = "ExitCode";
    cause["message"] = base::StrCat(result.exit_code);
    document["details"]["causes"].push_back(cause);
  } else {
    document["status"] = "Success";
  }
  return base::DumpJson(document);
}

}  // namespace streaming
