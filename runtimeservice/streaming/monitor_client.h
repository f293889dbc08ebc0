// A connection to a container's monitor (conmon/protocol.h), on the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "conmon/protocol.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/descriptor.h"

namespace streaming {

class MonitorClient {
 public:
  explicit MonitorClient(asio::io_context& loop) : loop_(loop), socket_(loop) {}

  // To the socket at `path`, however long that is. FAILED_PRECONDITION when nobody listens there.
  absl::Status Connect(const std::string& path);

  using OnPacket =
      std::function<void(conmon::MessageType type, uint32_t sequence, std::string_view payload)>;
  // Waits for packets and hands over those that are there, a bounded number of them; `payload` is
  // valid during the call only. False at the end of the connection.
  Task<bool> Receive(const OnPacket& take);

  // Sends one packet. CANCELLED when the connection has ended.
  Task<absl::Status> Send(conmon::MessageType type, uint32_t sequence, std::string_view payload);

  // A Send that waits is given up; Receive goes on.
  void Interrupt();
  // Ends Receive and Send.
  void Close();

 private:
  enum class Progress { kMore, kNothing, kEnd };
  Progress ReceiveOne(const OnPacket& take);

  asio::io_context& loop_;
  Descriptor socket_;
};

}  // namespace streaming
