#include "test/integration/throttled_registry.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"

namespace test {
namespace {

constexpr int kPatience = 20;  // Milliseconds until a thread looks at whether it is to end.
constexpr size_t kPiece = 8 << 10;

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int PortOf(const std::string& address) {
  return std::atoi(address.substr(address.rfind(':') + 1).c_str());
}

bool Readable(int fd) {
  pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, kPatience) > 0;
}

// Reads once and passes it on; the number of bytes, 0 at the end or after an error.
ssize_t Pass(int from, int to) {
  char piece[kPiece];
  const ssize_t got = read(from, piece, sizeof(piece));
  if (got <= 0) return 0;
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t more = send(to, piece + sent, static_cast<size_t>(got - sent), MSG_NOSIGNAL);
    if (more <= 0) return 0;
    sent += more;
  }
  return got;
}

}  // namespace

ThrottledRegistry::ThrottledRegistry(const std::string& registry_address, int64_t bytes_per_second)
    : registry_port_(PortOf(registry_address)),
      bytes_per_second_(bytes_per_second),
      listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_.get(), 64) != 0 ||
      getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::abort();
  }
  address_ = base::StrCat("127.0.0.1:", ntohs(address.sin_port));
  acceptor_ = std::thread([this] { Accept(); });
}

ThrottledRegistry::~ThrottledRegistry() {
  stop_ = true;
  acceptor_.join();
  base::MutexLock lock(&mutex_);
  for (std::thread& thread : threads_) thread.join();
}

void ThrottledRegistry::Accept() {
  while (!stop_) {
    if (!Readable(listener_.get())) continue;
    base::UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) continue;
    base::MutexLock lock(&mutex_);
    threads_.emplace_back([this, fd = client.Release()] { Serve(base::UniqueFd(fd)); });
  }
}

void ThrottledRegistry::Serve(base::UniqueFd client) {
  const base::UniqueFd registry(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(registry_port_);
  if (connect(registry.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return;
  }
  while (!stop_) {
    pollfd entries[] = {{.fd = client.get(), .events = POLLIN, .revents = 0},
                        {.fd = registry.get(), .events = POLLIN, .revents = 0}};
    if (poll(entries, std::size(entries), kPatience) <= 0) continue;
    if (entries[0].revents != 0 && Pass(client.get(), registry.get()) == 0) return;
    if (entries[1].revents != 0) {
      const ssize_t passed = Pass(registry.get(), client.get());
      if (passed == 0) return;
      Take(passed);
    }
  }
}

void ThrottledRegistry::Take(int64_t bytes) {
  int64_t wait = 0;
  {
    base::MutexLock lock(&mutex_);
    const int64_t now = absl::GetCurrentTimeNanos();
    free_at_ = std::max(free_at_, now) + bytes * 1'000'000'000 / bytes_per_second_;
    wait = free_at_ - now;
  }
  poll(nullptr, 0, static_cast<int>(wait / 1'000'000));  // The line's speed, no synchronisation.
}

}  // namespace test
