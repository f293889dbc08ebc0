// What systemd wants to hear (sd_notify(3)): one datagram for each message. Written out here
// because libsystemd and what it pulls in cost more memory than these lines.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace crispd {

// Thread-safe after construction.
class Notifier {
 public:
  // The socket of $NOTIFY_SOCKET and the interval of $WATCHDOG_USEC, when $WATCHDOG_PID is empty or
  // ours. Removes all three from the environment. Call it while there is one thread.
  static Notifier FromEnvironment();
  // `socket` is a path, or "@name" for the abstract namespace; empty: nobody listens.
  Notifier(std::string socket, absl::Duration watchdog);

  // Sends `state`, such as "READY=1\nMAINPID=42". OK when nobody listens.
  absl::Status Send(std::string_view state) const;

  // How often "WATCHDOG=1" is due: half of what systemd waits. Infinite when it does not watch.
  absl::Duration watchdog_interval() const { return watchdog_ / 2; }

 private:
  const std::string socket_;
  const absl::Duration watchdog_;
};

}  // namespace crispd
