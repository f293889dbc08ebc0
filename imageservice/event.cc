#include "imageservice/event.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <cstdint>

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

absl::Status Event::Wait(const base::Context& ctx) const {
  while (!set_.load()) {
    const absl::Status status = ctx.Check();
    if (!status.ok()) {
      return status;
    }
    int timeout = ctx.PollTimeout();
    if (!fd_.valid() && (timeout < 0 || timeout > kBlindMilliseconds)) {
      timeout = kBlindMilliseconds;
    }
    pollfd entries[] = {{.fd = fd_.get(), .events = POLLIN, .revents = 0},
                        {.fd = ctx.cancel_fd(), .events = POLLIN, .revents = 0}};
    poll(entries, 2, timeout);
  }
  return absl::OkStatus();
}

}  // namespace imageservice
