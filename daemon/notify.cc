#include "daemon/notify.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace crispd {
namespace {

std::string TakeVariable(const char* name) {
  const char* value = getenv(name);
  std::string taken = value == nullptr ? "" : value;
  unsetenv(name);
  return taken;
}

}  // namespace

Notifier Notifier::FromEnvironment() {
  std::string socket = TakeVariable("NOTIFY_SOCKET");
  const std::string interval = TakeVariable("WATCHDOG_USEC");
  const std::string pid = TakeVariable("WATCHDOG_PID");
  int64_t microseconds = 0;
  const bool watched = absl::SimpleAtoi(interval, &microseconds) && microseconds > 0 &&
                       (pid.empty() || pid == base::StrCat(getpid()));
  return Notifier(std::move(socket),
                  watched ? absl::Microseconds(microseconds) : absl::InfiniteDuration());
}

Notifier::Notifier(std::string socket, absl::Duration watchdog)
    : socket_(std::move(socket)), watchdog_(watchdog) {}

absl::Status Notifier::Send(std::string_view state) const {
  if (socket_.empty()) return absl::OkStatus();
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(base::StrCat("NOTIFY_SOCKET is too long: ", socket_));
  }
  socket_.copy(address.sun_path, socket_.size());
  if (socket_[0] == '@') {
    address.sun_path[0] = '\0';
  }
  const base::UniqueFd sender(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  const ssize_t sent = sendto(sender.get(), state.data(), state.size(), MSG_NOSIGNAL,
                              reinterpret_cast<const sockaddr*>(&address), length);
  return sent < 0 ? base::ErrnoStatus(errno, base::StrCat("notify ", socket_)) : absl::OkStatus();
}

}  // namespace crispd
