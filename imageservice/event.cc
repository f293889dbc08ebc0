#include "imageservice/event.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <cstdint>
#include <vector>

namespace imageservice {
namespace {

// Without a descriptor to wait for, the flag is looked at this often.
constexpr int kBlindMilliseconds = 100;

}  // namespace

Event::Event() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Event::Set() {
  set_.store(true);
  const uint64_t one = 1;
  // EAGAIN means that the descriptor is readable already.
  (void)!write(fd_.get(), &one, sizeof(one));
}

void Event::Clear() {
  set_.store(false);
  uint64_t count;
  (void)!read(fd_.get(), &count, sizeof(count));
}

absl::Status Event::WaitForAny(const base::Context& ctx, std::initializer_list<const Event*> events,
                               int fd) {
  for (;;) {
    int timeout = ctx.PollTimeout();
    std::vector<pollfd> entries = {{.fd = fd, .events = POLLIN, .revents = 0},
                                   {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0}};
    for (const Event* event : events) {
      if (event->set_.load()) {
        return absl::OkStatus();
      }
      if (!event->fd_.valid() && (timeout < 0 || timeout > kBlindMilliseconds)) {
        timeout = kBlindMilliseconds;
      }
      entries.push_back({.fd = event->fd_.get(), .events = POLLIN, .revents = 0});
    }
    const absl::Status status = ctx.Check();
    if (!status.ok()) {
      return status;
    }
    if (poll(entries.data(), entries.size(), timeout) > 0 && entries[0].revents != 0) {
      return absl::OkStatus();
    }
  }
}

}  // namespace imageservice
