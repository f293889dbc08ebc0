// The socket on which an OCI runtime hands over the master of the terminal that it made.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runtimeservice/streaming/descriptor.h"

namespace streaming {

class ConsoleSocket {
 public:
  explicit ConsoleSocket(asio::io_context& loop) : listener_(loop), connection_(loop) {}

  // Listens at `path`, whose last component must not exist; however long the path is.
  absl::Status Listen(asio::io_context& loop, const std::string& path);
  // The terminal's master, once it was sent; invalid when Close came first.
  Task<base::UniqueFd> Receive();
  // The master if it is there already, else invalid. Whoever sent it may be gone.
  base::UniqueFd ReceiveNow();
  // Whether one of both has returned it.
  bool handed_over() const { return handed_over_; }
  // Ends Receive.
  void Close();

 private:
  Descriptor listener_;
  Descriptor connection_;
  bool handed_over_ = false;
};

}  // namespace streaming
