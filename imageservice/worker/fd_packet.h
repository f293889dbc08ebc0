// Packets of a few bytes and descriptors, on SOCK_SEQPACKET sockets.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace imageservice::worker {

inline constexpr size_t kMaxPacketBytes = 1280;  // A forker's order with the longest name.
inline constexpr size_t kMaxPacketFds = 2;

struct FdPacket {
  std::string bytes;  // Never empty: that would be the end.
  std::vector<base::UniqueFd> fds;
};

// Sends at most kMaxPacketBytes and kMaxPacketFds, which stay the caller's; blocks while the peer's
// queue is full. UNAVAILABLE when the peer is gone.
absl::Status SendPacket(int socket, std::string_view bytes, const std::vector<int>& fds);

enum class Wait { kBlock, kNever };

// The next packet; nullopt when there is none and `wait` is kNever. OUT_OF_RANGE: every peer is
// gone; INVALID_ARGUMENT: a packet with more in it than allowed, which is dropped.
absl::StatusOr<std::optional<FdPacket>> ReceivePacket(int socket, Wait wait);

}  // namespace imageservice::worker
