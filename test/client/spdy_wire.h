// SPDY/3.1 from the client's side, as far as channel.k8s.io and portforward.k8s.io use it.
#pragma once

#include <zlib.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "test/client/stream_wire.h"

namespace test {

using SpdyHeaders = std::map<std::string, std::string>;

enum class SpdyFin { kNo, kYes };

struct SpdyEvent {
  enum class Kind {
    kReply,   // A stream was accepted.
    kData,    // `bytes` of `stream`, valid until the next call; a frame may come in several events.
    kReset,   // `stream` was reset with `status`.
    kPing,    // `status` is its number.
    kGoAway,  // `status` is why.
    kOther,   // A control frame of another type.
    kEnd,     // The peer closed the connection between two frames.
  };
  Kind kind = Kind::kOther;
  uint32_t stream = 0;
  uint32_t status = 0;
  SpdyFin fin = SpdyFin::kNo;  // Nothing follows on the stream.
  std::string_view bytes;
};

// One thread reads; any may write.
class SpdyWire {
 public:
  explicit SpdyWire(std::unique_ptr<Wire> wire);
  ~SpdyWire();
  SpdyWire(const SpdyWire&) = delete;
  SpdyWire& operator=(const SpdyWire&) = delete;

  // Opens the next stream without waiting for the answer; its number, which is odd.
  absl::StatusOr<uint32_t> OpenStream(const SpdyHeaders& headers, SpdyFin fin = SpdyFin::kNo);
  absl::Status Send(uint32_t stream, std::string_view bytes, SpdyFin fin = SpdyFin::kNo);
  absl::Status SendReset(uint32_t stream, uint32_t status);
  absl::Status SendPing(uint32_t number);
  absl::Status SendGoAway();
  // Bytes as they are, for frames that are wrong on purpose.
  absl::Status SendRaw(std::string_view bytes);

  // The next event within `timeout`. UNAVAILABLE when the connection breaks or ends in a frame,
  // DATA_LOSS when the server breaks the protocol.
  absl::StatusOr<SpdyEvent> Next(absl::Duration timeout);

  Wire& wire() { return *wire_; }

 private:
  std::string Compress(const SpdyHeaders& headers);
  absl::Status Decompress(std::string_view block);
  absl::Status Fill(size_t least, absl::Duration timeout);
  absl::StatusOr<SpdyEvent> Control(uint16_t type, std::string_view payload);
  absl::StatusOr<SpdyEvent> DataPiece(absl::Duration timeout);

  std::unique_ptr<Wire> wire_;
  std::mutex writing_;
  uint32_t next_stream_ = 1;
  z_stream deflate_ = {};
  z_stream inflate_ = {};
  // What was read and not yet used: [begin_, end_) of buffer_.
  std::unique_ptr<char[]> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  // The data frame that is being read.
  uint32_t data_stream_ = 0;
  SpdyFin data_fin_ = SpdyFin::kNo;
  size_t data_left_ = 0;
  bool in_data_ = false;
};

}  // namespace test
