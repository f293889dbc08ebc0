// The door to libsystemd: what is asked of systemd, process 1. The library is loaded when the first
// question is asked; without systemd it is not needed at all.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "base/context.h"

namespace base {

// Whether process 1 is systemd (sd_booted(3)). Cheap.
bool SystemdIsInit();

// Stops a unit and waits until systemd has nothing more of it, a failure included. OK when there is
// none. Connects to systemd's private socket for each call, so that neither its restart nor that
// of D-Bus matters; a connection that breaks is tried again until the context ends.
// FAILED_PRECONDITION when there is no systemd or no libsystemd.so.0; else systemd's own words.
absl::Status StopSystemdUnit(const Context& ctx, const std::string& unit);

}  // namespace base
