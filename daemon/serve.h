// The daemon's life: start, serve, drain.
#pragma once

#include "absl/status/status.h"
#include "daemon/config.h"

namespace crispd {

// Serves until SIGTERM or SIGINT; OK after a clean end. Called once, from main's thread, before any
// other thread exists. Containers run on when it returns. Leaves by _exit when a handler is stuck.
absl::Status Serve(const Config& config);

}  // namespace crispd
