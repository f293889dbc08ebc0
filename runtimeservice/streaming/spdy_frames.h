// Frames of SPDY/3.1 (draft 3.1, section 2.2): bytes in any cuts become frames, and frames bytes.
// Header blocks stay compressed here (spdy_headers.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace streaming {

// RST_STREAM's reasons.
enum class SpdyReset : uint32_t {
  kProtocolError = 1,
  kInvalidStream = 2,
  kRefusedStream = 3,
  kUnsupportedVersion = 4,
  kCancel = 5,
  kInternalError = 6,
};

// GOAWAY's reasons.
enum class SpdyGoAway : uint32_t { kOk = 0, kProtocolError = 1, kInternalError = 2 };

// One frame, or a part of a DATA frame.
struct SpdyFrame {
  enum class Type {
    kData,
    kSynStream,
    kSynReply,
    kReset,
    kSettings,
    kPing,
    kGoAway,
    kHeaders,
    kWindowUpdate
  };
  Type type = Type::kData;
  // 0 for SETTINGS and PING; GOAWAY: the last good one.
  uint32_t stream = 0;
  // RST_STREAM, GOAWAY: the reason; PING: its id; WINDOW_UPDATE: the delta; SETTINGS: the entries.
  uint32_t value = 0;
  // The sender sends no more on this stream. Of a DATA frame in parts the last one says so.
  bool fin = false;
  bool unidirectional = false;  // SYN_STREAM.
  // Payload, or the compressed header block. Valid until the decoder's next call, and as long as
  // the input it came from.
  std::string_view bytes;
};

// Takes a connection apart. Keeps at most one control frame; DATA goes through without a copy.
class SpdyDecoder {
 public:
  // Frames longer than `max_frame_bytes` are an error, and so are header blocks that are longer
  // than `max_header_bytes` while still compressed.
  SpdyDecoder(size_t max_frame_bytes, size_t max_header_bytes)
      : max_frame_bytes_(max_frame_bytes), max_header_bytes_(max_header_bytes) {}

  // Takes what it uses off the front of `*input` and returns the next frame; nothing once the input
  // is used up. A DATA frame comes in as many parts as its bytes do. Control frames of unknown
  // types are skipped. INVALID_ARGUMENT: not SPDY/3.1, or a length that its type does not allow;
  // RESOURCE_EXHAUSTED: a frame that is too long, with the limit's name. After an error there is no
  // next frame.
  absl::StatusOr<std::optional<SpdyFrame>> Next(std::string_view* input);

 private:
  static constexpr size_t kHeadSize = 8;

  // The next `size` bytes as one piece: in place, or gathered in kept_; nothing when more are
  // needed.
  std::optional<std::string_view> Gather(size_t size, std::string_view* input);
  absl::Status ParseHead(std::string_view head);
  absl::Status BeginControl(uint16_t type, uint8_t flags, size_t length);
  absl::Status ParseControl(std::string_view payload);
  SpdyFrame TakeData(std::string_view* input);

  enum class State { kHead, kControl, kSkip, kData };
  const size_t max_frame_bytes_;
  const size_t max_header_bytes_;
  State state_ = State::kHead;
  SpdyFrame frame_;       // What its head said.
  size_t remaining_ = 0;  // Of what the state takes.
  size_t skipped_ = 0;    // Of a control frame, what comes behind the part that is kept.
  std::string kept_;      // The beginning of a head or of a control frame's payload.
  bool kept_is_used_ = false;
};

// The head of a DATA frame of `size` bytes (less than 2^24).
std::array<char, 8> SpdyDataHead(uint32_t stream, size_t size, bool fin);

// Whole frames. `block` is a compressed header block.
std::string SpdySynStream(uint32_t stream, std::string_view block, bool fin = false);
std::string SpdySynReply(uint32_t stream, std::string_view block, bool fin = false);
std::string SpdyRstStream(uint32_t stream, SpdyReset reason);
std::string SpdyPing(uint32_t id);
std::string SpdyGoAwayFrame(uint32_t last_good_stream, SpdyGoAway reason);
std::string SpdyData(uint32_t stream, std::string_view payload, bool fin = false);

}  // namespace streaming
