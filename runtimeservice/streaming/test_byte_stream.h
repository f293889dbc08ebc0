// A ByteStream over any connected stream socket, for tests; and such a socket's other end.
#pragma once

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "runtimeservice/streaming/byte_stream.h"

namespace streaming {

class TestByteStream : public ByteStream {
 public:
  TestByteStream(asio::io_context& loop, base::UniqueFd socket, int family = AF_UNIX)
      : socket_(loop, asio::generic::stream_protocol(family, 0), socket.Release()) {}

  Task<absl::StatusOr<size_t>> Read(std::span<char> buffer) override {
    Error error;
    const asio::mutable_buffer target(buffer.data(), buffer.size());
    const size_t size = co_await socket_.async_read_some(target, Await(error));
    if (error == asio::error::eof) {
      co_return size_t{0};
    }
    if (error) {
      co_return ToStatus(error, "read");
    }
    co_return size;
  }

  Task<absl::Status> Write(std::span<const std::string_view> pieces) override {
    std::vector<asio::const_buffer> buffers;
    for (const std::string_view piece : pieces) {
      buffers.emplace_back(piece.data(), piece.size());
    }
    Error error;
    co_await asio::async_write(socket_, buffers, Await(error));
    co_return ToStatus(error, "write");
  }

  Task<> FinishWriting() override {
    Error error;
    socket_.shutdown(asio::socket_base::shutdown_send, error);
    co_return;
  }

  size_t Unacknowledged() override {
    int bytes = 0;
    return ioctl(socket_.native_handle(), SIOCOUTQ, &bytes) == 0 ? static_cast<size_t>(bytes) : 0;
  }

  void Close() override {
    Error error;
    socket_.close(error);
  }

 private:
  asio::generic::stream_protocol::socket socket_;
};

// A stream, and a blocking socket for what a client does.
inline std::pair<std::unique_ptr<TestByteStream>, base::UniqueFd> MakeTestByteStream(
    asio::io_context& loop) {
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return {};
  }
  return {std::make_unique<TestByteStream>(loop, base::UniqueFd(ends[0])), base::UniqueFd(ends[1])};
}

}  // namespace streaming
