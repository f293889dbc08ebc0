// What a command's client is sent, and whether it takes it.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtimeservice/streaming/async.h"
#include "runtimeservice/streaming/command_client.h"
#include "runtimeservice/streaming/command_result.h"

namespace streaming {

// How long a client may take no output once the container has ended; then it is dropped.
inline constexpr absl::Duration kStalledAfterEnd = absl::Seconds(30);

class ClientOutput {
 public:
  // `client` must outlive this object.
  ClientOutput(asio::io_context& loop, CommandClient& client)
      : client_(client), told_signal_(loop) {}

  // As CommandClient does.
  Task<absl::Status> Write(OutputStream stream, std::string_view bytes);
  Task<> Finish(const CommandResult& result);
  // Nothing more will be written or finished: DropStalled returns.
  void End();
  bool ended() const { return ended_; }

  // Drops the client when one of these calls takes longer than `limit`, from now on until End;
  // returns whether it did.
  Task<bool> DropStalled(absl::Duration limit);

 private:
  CommandClient& client_;
  size_t waiting_ = 0;
  uint64_t taken_ = 0;  // Calls that came back.
  bool ended_ = false;
  Signal told_signal_;
};

}  // namespace streaming
