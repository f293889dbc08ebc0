#include "runtimeservice/streaming/namespace_sockets.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace streaming {
namespace {

absl::StatusOr<LoopbackSockets> MakeHere() {
  constexpr int kType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  LoopbackSockets sockets;
  sockets.ipv4.Reset(socket(AF_INET, kType, 0));
  const int error = errno;
  sockets.ipv6.Reset(socket(AF_INET6, kType, 0));
  if (!sockets.ipv4.valid() && !sockets.ipv6.valid()) {
    return base::ErrnoStatus(error, "make a socket");
  }
  return sockets;
}

absl::StatusOr<LoopbackSockets> MakeIn(const std::string& path) {
  ASSIGN_OR_RETURN(const base::UniqueFd space, base::Open(path, O_RDONLY | O_CLOEXEC));
  if (setns(space.get(), CLONE_NEWNET) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("enter the network namespace ", path));
  }
  return MakeHere();
}

// RESOURCE_EXHAUSTED when the system has no thread to give: that is one connection's failure.
absl::StatusOr<std::thread> StartThread(std::function<void()> work) {
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(base::StrCat("start a thread: ", error.what()));
  }
}

// Of the thread and the coroutine that waits for it.
struct Order {
  Order(asio::io_context& loop, std::string where) : path(std::move(where)), done(loop) {}

  const std::string path;
  absl::StatusOr<LoopbackSockets> sockets = absl::UnknownError("not made");
  bool made = false;  // The loop's.
  Signal done;
};

}  // namespace

Task<absl::StatusOr<LoopbackSockets>> MakeLoopbackSockets(asio::io_context& loop,
                                                          const std::string& path) {
  if (path.empty()) {
    co_return MakeHere();
  }
  const auto order = std::make_shared<Order>(loop, path);
  absl::StatusOr<std::thread> maker = StartThread([&loop, order] {
    order->sockets = MakeIn(order->path);
    asio::post(loop, [order] {
      order->made = true;
      order->done.Notify();
    });
  });
  if (!maker.ok()) {
    co_return maker.status();
  }
  while (!order->made) {
    co_await order->done.Wait();
  }
  maker->join();
  co_return std::move(order->sockets);
}

}  // namespace streaming
