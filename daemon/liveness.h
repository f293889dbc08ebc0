// Whether the daemon makes progress: what systemd's watchdog is fed by.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "daemon/lanes.h"

namespace crispd {

// Not thread-safe: one thread asks, at the watchdog's interval.
class Liveness {
 public:
  // `check_services` may be null. Both outlive this object.
  Liveness(const Lanes* lanes, std::function<absl::Status()> check_services);

  // An error when a lane had idle threads beside waiting requests at two checks in a row without
  // having taken one, or when the services say so. Busy lanes are alive: work that hangs is cut off
  // by its own deadline. A deadlock on a lane's mutex shows as a check that does not return.
  absl::Status Check();

 private:
  const Lanes* const lanes_;
  const std::function<absl::Status()> check_services_;
  std::map<std::string, size_t> stuck_;  // How many waited in each lane that looked stuck.
};

}  // namespace crispd
