// What one client may cost, from stream::Settings; plain data.
#pragma once

#include <cstddef>

#include "absl/time/time.h"

namespace streaming {

struct Limits {
  size_t max_streams = 1000;               // Of one connection, open at once.
  size_t max_frame_bytes = (1 << 24) - 1;  // Of one SPDY frame: its length field's most.
  size_t max_header_bytes = 64 << 10;      // Of an HTTP header or a SPDY header block, inflated.
  absl::Duration creation = absl::Seconds(30);  // For the handshake; then for all streams.
  absl::Duration idle = absl::Hours(4);         // Without a byte on any stream. 0: for ever.
  // How often a client whose input waits unread hears from us. Over WebSocket its pings wait, too,
  // and the Go clients give up after 60 s without a byte; and only so we hear that it is gone.
  absl::Duration pong = absl::Seconds(5);
  // How long a client that has got everything may keep its connection open.
  absl::Duration farewell = absl::Seconds(10);
};

}  // namespace streaming
