// `crisp status`: what a running daemon says of itself, or what lies on disk.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace crispd {

struct DaemonStatus {
  std::string text;    // For people, several lines.
  bool ready = false;  // Whether every condition is true.
};

// Asks the daemon on `socket`; UNAVAILABLE when nobody serves there, DEADLINE_EXCEEDED when it does
// not answer.
absl::StatusOr<DaemonStatus> AskStatus(const std::string& socket);

// The records below `root` as text, damaged ones included; a line says so when there are none.
// Reads copies and changes nothing, so a running daemon is not disturbed.
absl::StatusOr<std::string> RecordsAsText(const std::string& root);

}  // namespace crispd
