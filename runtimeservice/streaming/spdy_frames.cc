#include "runtimeservice/streaming/spdy_frames.h"

#include <algorithm>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/streaming/spdy_numbers.h"

namespace streaming {
namespace {

constexpr uint32_t kControlBit = 0x80000000;
constexpr uint32_t kStreamMask = 0x7fffffff;  // The top bit is reserved.
constexpr uint16_t kVersion = 3;
constexpr uint8_t kFin = 1;
constexpr uint8_t kUnidirectional = 2;
constexpr size_t kSettingSize = 8;
// What deflate may add to a header block that cannot be compressed.
constexpr size_t kDeflateOverhead = 1024;

using Type = SpdyFrame::Type;

// Type numbers, and how long a frame is before its header block or its settings.
struct ControlType {
  uint16_t number;
  Type type;
  size_t fixed;
  bool has_more;
};
constexpr ControlType kControlTypes[] = {
    {1, Type::kSynStream, 10, true}, {2, Type::kSynReply, 4, true},
    {3, Type::kReset, 8, false},     {4, Type::kSettings, 4, true},
    {6, Type::kPing, 4, false},      {7, Type::kGoAway, 8, false},
    {8, Type::kHeaders, 4, true},    {9, Type::kWindowUpdate, 8, false},
};

bool HasHeaderBlock(Type type) {
  return type == Type::kSynStream || type == Type::kSynReply || type == Type::kHeaders;
}

std::string ControlHead(uint16_t type, size_t length, bool fin = false) {
  std::string frame;
  AppendSpdyNumber(kControlBit | uint32_t{kVersion} << 16 | type, &frame);
  AppendSpdyNumber((fin ? uint32_t{kFin} << 24 : 0) | static_cast<uint32_t>(length), &frame);
  return frame;
}

}  // namespace

absl::StatusOr<std::optional<SpdyFrame>> SpdyDecoder::Next(std::string_view* input) {
  while (true) {
    if (kept_is_used_) {
      kept_.clear();
      kept_is_used_ = false;
    }
    switch (state_) {
      case State::kHead: {
        const std::optional<std::string_view> head = Gather(kHeadSize, input);
        if (!head.has_value()) {
          return std::nullopt;
        }
        RETURN_IF_ERROR(ParseHead(*head));
        break;
      }
      case State::kControl: {
        const std::optional<std::string_view> payload = Gather(remaining_, input);
        if (!payload.has_value()) {
          return std::nullopt;
        }
        RETURN_IF_ERROR(ParseControl(*payload));
        return frame_;
      }
      case State::kSkip: {
        const size_t size = std::min(remaining_, input->size());
        input->remove_prefix(size);
        remaining_ -= size;
        if (remaining_ > 0) {
          return std::nullopt;
        }
        state_ = State::kHead;
        break;
      }
      case State::kData:
        if (remaining_ > 0 && input->empty()) {
          return std::nullopt;
        }
        return TakeData(input);
    }
  }
}

std::optional<std::string_view> SpdyDecoder::Gather(size_t size, std::string_view* input) {
  if (kept_.empty() && input->size() >= size) {
    const std::string_view piece = input->substr(0, size);
    input->remove_prefix(size);
    return piece;
  }
  const size_t taken = std::min(size - kept_.size(), input->size());
  kept_ += input->substr(0, taken);
  input->remove_prefix(taken);
  if (kept_.size() < size) {
    return std::nullopt;
  }
  kept_is_used_ = true;
  return kept_;
}

absl::Status SpdyDecoder::ParseHead(std::string_view head) {
  const uint32_t first = SpdyNumber(head);
  const uint32_t second = SpdyNumber(head.substr(4));
  const auto flags = static_cast<uint8_t>(second >> 24);
  const size_t length = second & 0xffffff;
  frame_ = {};
  if ((first & kControlBit) != 0 && (first & kStreamMask) >> 16 != kVersion) {
    return absl::InvalidArgumentError(
        base::StrCat("frame of SPDY version ", (first & kStreamMask) >> 16));
  }
  if (length > max_frame_bytes_) {
    return absl::ResourceExhaustedError(base::StrCat(
        "frame of ", length, " bytes: more than max_frame_bytes (", max_frame_bytes_, ")"));
  }
  if ((first & kControlBit) != 0) {
    return BeginControl(static_cast<uint16_t>(first), flags, length);
  }
  frame_.stream = first;
  frame_.fin = (flags & kFin) != 0;
  remaining_ = length;
  state_ = State::kData;
  return absl::OkStatus();
}

absl::Status SpdyDecoder::BeginControl(uint16_t type, uint8_t flags, size_t length) {
  const auto* known = std::find_if(std::begin(kControlTypes), std::end(kControlTypes),
                                   [type](const ControlType& row) { return row.number == type; });
  remaining_ = length;
  if (known == std::end(kControlTypes)) {
    state_ = State::kSkip;
    return absl::OkStatus();
  }
  if (length < known->fixed || (length > known->fixed && !known->has_more)) {
    return absl::InvalidArgumentError(
        base::StrCat("control frame of type ", type, " with ", length, " bytes"));
  }
  frame_.type = known->type;
  skipped_ = 0;
  if (HasHeaderBlock(known->type)) {
    frame_.fin = (flags & kFin) != 0;
    frame_.unidirectional = known->type == Type::kSynStream && (flags & kUnidirectional) != 0;
    if (length - known->fixed > max_header_bytes_ + kDeflateOverhead) {
      return absl::ResourceExhaustedError(base::StrCat("header block of ", length - known->fixed,
                                                       " bytes: more than max_header_bytes (",
                                                       max_header_bytes_, ")"));
    }
  } else {  // Of settings only their number is of interest.
    remaining_ = known->fixed;
    skipped_ = length - known->fixed;
  }
  state_ = State::kControl;
  return absl::OkStatus();
}

absl::Status SpdyDecoder::ParseControl(std::string_view payload) {
  const uint32_t first = SpdyNumber(payload);
  const uint32_t second = SpdyNumber(payload.substr(4));
  state_ = State::kHead;
  switch (frame_.type) {
    case Type::kSynStream:
      frame_.stream = first & kStreamMask;
      frame_.bytes = payload.substr(10);
      break;
    case Type::kSynReply:
    case Type::kHeaders:
      frame_.stream = first & kStreamMask;
      frame_.bytes = payload.substr(4);
      break;
    case Type::kReset:
    case Type::kGoAway:
    case Type::kWindowUpdate:
      frame_.stream = first & kStreamMask;
      frame_.value = second;
      break;
    case Type::kSettings:
      if (skipped_ != size_t{first} * kSettingSize) {
        return absl::InvalidArgumentError(
            base::StrCat("SETTINGS of ", first, " entries in ", skipped_, " bytes"));
      }
      frame_.value = first;
      remaining_ = skipped_;
      state_ = State::kSkip;
      break;
    case Type::kPing:
      frame_.value = first;
      break;
    case Type::kData:
      break;
  }
  return absl::OkStatus();
}

SpdyFrame SpdyDecoder::TakeData(std::string_view* input) {
  SpdyFrame part = frame_;
  part.bytes = input->substr(0, std::min(remaining_, input->size()));
  input->remove_prefix(part.bytes.size());
  remaining_ -= part.bytes.size();
  if (remaining_ > 0) {
    part.fin = false;
  } else {
    state_ = State::kHead;
  }
  return part;
}

std::array<char, 8> SpdyDataHead(uint32_t stream, size_t size, bool fin) {
  return {static_cast<char>(stream >> 24),   static_cast<char>(stream >> 16),
          static_cast<char>(stream >> 8),    static_cast<char>(stream),
          static_cast<char>(fin ? kFin : 0), static_cast<char>(size >> 16),
          static_cast<char>(size >> 8),      static_cast<char>(size)};
}

std::string SpdySynStream(uint32_t stream, std::string_view block, bool fin) {
  std::string frame = ControlHead(1, 10 + block.size(), fin);
  AppendSpdyNumber(stream, &frame);
  frame.append(6, '\0');  // Associated with no stream; priority and slot 0.
  frame += block;
  return frame;
}

std::string SpdySynReply(uint32_t stream, std::string_view block, bool fin) {
  std::string frame = ControlHead(2, 4 + block.size(), fin);
  AppendSpdyNumber(stream, &frame);
  frame += block;
  return frame;
}

std::string SpdyRstStream(uint32_t stream, SpdyReset reason) {
  std::string frame = ControlHead(3, 8);
  AppendSpdyNumber(stream, &frame);
  AppendSpdyNumber(static_cast<uint32_t>(reason), &frame);
  return frame;
}

std::string SpdyPing(uint32_t id) {
  std::string frame = ControlHead(6, 4);
  AppendSpdyNumber(id, &frame);
  return frame;
}

std::string SpdyGoAwayFrame(uint32_t last_good_stream, SpdyGoAway reason) {
  std::string frame = ControlHead(7, 8);
  AppendSpdyNumber(last_good_stream, &frame);
  AppendSpdyNumber(static_cast<uint32_t>(reason), &frame);
  return frame;
}

std::string SpdyData(uint32_t stream, std::string_view payload, bool fin) {
  const std::array<char, 8> head = SpdyDataHead(stream, payload.size(), fin);
  std::string frame(head.data(), head.size());
  frame += payload;
  return frame;
}

}  // namespace streaming
