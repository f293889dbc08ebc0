// How an exec or an attach ended, and how a client is told (the error stream of channel.k8s.io).
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace streaming {

struct CommandResult {
  // Why there is no exit code: the command could not be run. OK otherwise.
  absl::Status status;
  int exit_code = 0;
  // Added to the text of an exit code that is not 0, such as "its container ended".
  std::string remark;
};

// The Status object that v4 and v5 carry as JSON: Success; Failure with reason NonZeroExitCode and
// the code as a cause; Failure with reason InternalError.
std::string StatusDocument(const CommandResult& result);

// What the protocols before v4 say: nothing for success, else the text.
std::string StatusText(const CommandResult& result);

}  // namespace streaming
