// A blocking SPDY client for tests, on a socket; and a loop on a thread of its own to serve it.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "runtimeservice/streaming/spdy_frames.h"
#include "runtimeservice/streaming/spdy_headers.h"
#include "runtimeservice/streaming/test_byte_stream.h"

namespace streaming {

class SpdyTestClient {
 public:
  using Headers = std::initializer_list<std::pair<std::string_view, std::string_view>>;
  struct Frame {
    SpdyFrame head;
    std::string bytes;  // Of a DATA frame, perhaps a part only.
  };
  // What came until the server's end of file.
  struct Summary {
    std::map<uint32_t, std::string> data;
    std::set<uint32_t> replies;
    std::set<uint32_t> fins;
    std::map<uint32_t, SpdyReset> resets;
    std::vector<uint32_t> pings;
    std::optional<SpdyGoAway> goaway;
  };

  // Every wait ends after ten seconds.
  explicit SpdyTestClient(base::UniqueFd socket) : socket_(std::move(socket)) {
    const timeval limit = {.tv_sec = 10, .tv_usec = 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  }

  // Whether the server took it all.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) {
        return false;
      }
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  std::string OpenFrame(uint32_t stream, Headers headers, bool fin = false) {
    SpdyHeaders block;
    for (const auto& [name, value] : headers) {
      block.Add(name, value);
    }
    return SpdySynStream(stream, deflater_.Deflate(block.Serialize()), fin);
  }
  // Opens the next stream; returns its id.
  uint32_t Open(Headers headers, bool fin = false) {
    const uint32_t stream = std::exchange(next_stream_, next_stream_ + 2);
    Send(OpenFrame(stream, headers, fin));
    return stream;
  }
  uint32_t OpenType(std::string_view type) { return Open({{"streamtype", type}}); }
  void Data(uint32_t stream, std::string_view bytes, bool fin = false) {
    Send(SpdyData(stream, bytes, fin));
  }

  // Nothing at the end of the connection.
  std::optional<Frame> Next() {
    while (true) {
      const absl::StatusOr<std::optional<SpdyFrame>> frame = decoder_.Next(&input_);
      EXPECT_TRUE(frame.ok()) << frame.status();
      if (!frame.ok()) {
        return std::nullopt;
      }
      if (frame->has_value()) {
        return Frame{**frame, std::string((*frame)->bytes)};
      }
      const ssize_t size = recv(socket_.get(), buffer_.data(), buffer_.size(), 0);
      if (size <= 0) {
        at_end_ = size == 0;
        return std::nullopt;
      }
      input_ = std::string_view(buffer_.data(), static_cast<size_t>(size));
    }
  }
  // Reads until the frame that `wanted` is true for; what came is in `seen`.
  template <typename Wanted>
  bool ReadUntil(Wanted wanted) {
    while (std::optional<Frame> frame = Next()) {
      Note(*frame);
      if (wanted(*frame)) {
        return true;
      }
    }
    return false;
  }
  bool ReadUntilReply(uint32_t stream) {
    return ReadUntil([stream](const Frame& frame) {
      return frame.head.type == SpdyFrame::Type::kSynReply && frame.head.stream == stream;
    });
  }
  const Summary& ReadAll() {
    ReadUntil([](const Frame&) { return false; });
    return seen;
  }
  // Whether the connection ended with an end of file, not with an error or a time-out.
  bool at_end() const { return at_end_; }
  void Close() { socket_.Reset(); }
  // Both ways, and for other threads too.
  void Shutdown() { shutdown(socket_.get(), SHUT_RDWR); }
  // Until something comes, at most a few milliseconds; takes nothing.
  void PauseForInput() {
    pollfd input = {.fd = socket_.get(), .events = POLLIN, .revents = 0};
    poll(&input, 1, 5);
  }
  int fd() const { return socket_.get(); }

  Summary seen;

 private:
  void Note(const Frame& frame) {
    const SpdyFrame& head = frame.head;
    switch (head.type) {
      case SpdyFrame::Type::kData:
        seen.data[head.stream] += frame.bytes;
        if (head.fin) {
          seen.fins.insert(head.stream);
        }
        break;
      case SpdyFrame::Type::kSynReply:
        EXPECT_TRUE(inflater_.Inflate(frame.bytes).ok());
        seen.replies.insert(head.stream);
        break;
      case SpdyFrame::Type::kReset:
        seen.resets[head.stream] = static_cast<SpdyReset>(head.value);
        break;
      case SpdyFrame::Type::kPing:
        seen.pings.push_back(head.value);
        break;
      case SpdyFrame::Type::kGoAway:
        seen.goaway = static_cast<SpdyGoAway>(head.value);
        break;
      default:
        ADD_FAILURE() << "a frame the server has no reason to send";
    }
  }

  base::UniqueFd socket_;
  SpdyDeflater deflater_{9};
  SpdyInflater inflater_{4096};
  SpdyDecoder decoder_{1 << 24, 4096};
  std::string buffer_ = std::string(64 << 10, '\0');
  std::string_view input_;
  uint32_t next_stream_ = 1;
  bool at_end_ = false;
};

// Runs what is spawned on `loop` until it has ended by itself.
class LoopThread {
 public:
  ~LoopThread() { Join(); }
  asio::io_context& loop() { return loop_; }
  // After the first Spawn.
  void Start() {
    thread_ = std::thread([this] { loop_.run(); });
  }
  // Until nothing is left to do.
  void Join() {
    if (thread_.joinable()) {
      thread_.join();
    }
  }

 private:
  asio::io_context loop_;
  std::thread thread_;
};

}  // namespace streaming
