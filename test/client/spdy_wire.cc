#include "test/client/spdy_wire.h"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"
#include "base/strings.h"

namespace test {
namespace {

#include "test/client/spdy_dictionary.inc"

constexpr size_t kBuffer = 512 << 10;
constexpr size_t kHead = 8;
constexpr uint16_t kSynStream = 1;
constexpr uint16_t kSynReply = 2;
constexpr uint16_t kReset = 3;
constexpr uint16_t kPing = 6;
constexpr uint16_t kGoAway = 7;

void Put32(uint32_t value, std::string* out) {
  const uint32_t wire = htobe32(value);
  out->append(reinterpret_cast<const char*>(&wire), sizeof(wire));
}

uint32_t Get32(const char* at) {
  uint32_t wire = 0;
  memcpy(&wire, at, sizeof(wire));
  return be32toh(wire);
}

std::string ControlHead(uint16_t type, SpdyFin fin, size_t length) {
  std::string head;
  Put32(0x80030000u | type, &head);
  Put32((fin == SpdyFin::kYes ? 1u << 24 : 0u) | static_cast<uint32_t>(length), &head);
  return head;
}

Bytef* Bytes(const char* text) { return reinterpret_cast<Bytef*>(const_cast<char*>(text)); }

}  // namespace

SpdyWire::SpdyWire(std::unique_ptr<Wire> wire)
    : wire_(std::move(wire)), buffer_(std::make_unique<char[]>(kBuffer)) {
  deflateInit2(&deflate_, 9, Z_DEFLATED, 15, 8, Z_DEFAULT_STRATEGY);
  deflateSetDictionary(&deflate_, kSpdyDictionary, sizeof(kSpdyDictionary));
  inflateInit(&inflate_);
}

SpdyWire::~SpdyWire() {
  deflateEnd(&deflate_);
  inflateEnd(&inflate_);
}

std::string SpdyWire::Compress(const SpdyHeaders& headers) {
  std::string plain;
  Put32(static_cast<uint32_t>(headers.size()), &plain);
  for (const auto& [name, value] : headers) {
    for (const std::string& text : {name, value}) {
      Put32(static_cast<uint32_t>(text.size()), &plain);
      plain += text;
    }
  }
  std::string block(deflateBound(&deflate_, plain.size()) + 64, '\0');
  deflate_.next_in = Bytes(plain.data());
  deflate_.avail_in = static_cast<uInt>(plain.size());
  deflate_.next_out = Bytes(block.data());
  deflate_.avail_out = static_cast<uInt>(block.size());
  deflate(&deflate_, Z_SYNC_FLUSH);
  block.resize(block.size() - deflate_.avail_out);
  return block;
}

absl::Status SpdyWire::Decompress(std::string_view block) {
  char plain[4096];
  inflate_.next_in = Bytes(block.data());
  inflate_.avail_in = static_cast<uInt>(block.size());
  while (inflate_.avail_in > 0) {
    inflate_.next_out = Bytes(plain);
    inflate_.avail_out = sizeof(plain);
    int result = inflate(&inflate_, Z_SYNC_FLUSH);
    if (result == Z_NEED_DICT) {
      result = inflateSetDictionary(&inflate_, kSpdyDictionary, sizeof(kSpdyDictionary));
    }
    if (result != Z_OK) return absl::DataLossError("a header block that does not inflate");
  }
  // The Go peers read no block that does not end with a full flush.
  if (!block.ends_with(std::string_view("\0\0\xff\xff", 4))) {
    return absl::DataLossError("a header block without a flush at its end");
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> SpdyWire::OpenStream(const SpdyHeaders& headers, SpdyFin fin) {
  const std::lock_guard<std::mutex> lock(writing_);
  const uint32_t stream = next_stream_;
  next_stream_ += 2;
  std::string body;
  Put32(stream, &body);
  Put32(0, &body);
  body.append(2, '\0');
  body += Compress(headers);
  RETURN_IF_ERROR(wire_->Write(ControlHead(kSynStream, fin, body.size()), body));
  return stream;
}

absl::Status SpdyWire::Send(uint32_t stream, std::string_view bytes, SpdyFin fin) {
  std::string head;
  Put32(stream, &head);
  Put32((fin == SpdyFin::kYes ? 1u << 24 : 0u) | static_cast<uint32_t>(bytes.size()), &head);
  const std::lock_guard<std::mutex> lock(writing_);
  return wire_->Write(head, bytes);
}

absl::Status SpdyWire::SendReset(uint32_t stream, uint32_t status) {
  std::string body;
  Put32(stream, &body);
  Put32(status, &body);
  return SendRaw(ControlHead(kReset, SpdyFin::kNo, body.size()) + body);
}

absl::Status SpdyWire::SendPing(uint32_t number) {
  std::string body;
  Put32(number, &body);
  return SendRaw(ControlHead(kPing, SpdyFin::kNo, body.size()) + body);
}

absl::Status SpdyWire::SendGoAway() {
  return SendRaw(ControlHead(kGoAway, SpdyFin::kNo, 8) + std::string(8, '\0'));
}

absl::Status SpdyWire::SendRaw(std::string_view bytes) {
  const std::lock_guard<std::mutex> lock(writing_);
  return wire_->Write(bytes, "");
}

absl::Status SpdyWire::Fill(size_t least, absl::Duration timeout) {
  if (least > kBuffer) return absl::DataLossError("a control frame of this size");
  if (end_ - begin_ >= least) return absl::OkStatus();
  memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  while (end_ < least) {
    ASSIGN_OR_RETURN(const size_t count,
                     wire_->Read(buffer_.get() + end_, kBuffer - end_, timeout));
    if (count == 0) {
      if (end_ == 0) return absl::OutOfRangeError("the end of the connection");
      return absl::UnavailableError("the connection ended within a frame");
    }
    end_ += count;
  }
  return absl::OkStatus();
}

absl::StatusOr<SpdyEvent> SpdyWire::DataPiece(absl::Duration timeout) {
  if (data_left_ > 0) {
    const absl::Status filled = Fill(1, timeout);
    if (absl::IsOutOfRange(filled))
      return absl::UnavailableError("the connection ended in a frame");
    if (!filled.ok()) return filled;
  }
  const size_t count = std::min(data_left_, end_ - begin_);
  SpdyEvent event;
  event.kind = SpdyEvent::Kind::kData;
  event.stream = data_stream_;
  event.bytes = std::string_view(buffer_.get() + begin_, count);
  begin_ += count;
  data_left_ -= count;
  in_data_ = data_left_ > 0;
  event.fin = in_data_ ? SpdyFin::kNo : data_fin_;
  return event;
}

absl::StatusOr<SpdyEvent> SpdyWire::Control(uint16_t type, std::string_view payload) {
  SpdyEvent event;
  if (payload.size() >= 4) event.stream = Get32(payload.data()) & 0x7fffffffu;
  if (payload.size() >= 8) event.status = Get32(payload.data() + 4);
  if (type == kSynReply) {
    event.kind = SpdyEvent::Kind::kReply;
    if (payload.size() < 4) return absl::DataLossError("a short SYN_REPLY");
    RETURN_IF_ERROR(Decompress(payload.substr(4)));
  } else if (type == kReset) {
    event.kind = SpdyEvent::Kind::kReset;
  } else if (type == kPing) {
    event.kind = SpdyEvent::Kind::kPing;
    event.status = event.stream;
  } else if (type == kGoAway) {
    event.kind = SpdyEvent::Kind::kGoAway;
  }
  return event;
}

absl::StatusOr<SpdyEvent> SpdyWire::Next(absl::Duration timeout) {
  if (in_data_) return DataPiece(timeout);
  const absl::Status filled = Fill(kHead, timeout);
  if (absl::IsOutOfRange(filled)) {
    SpdyEvent event;
    event.kind = SpdyEvent::Kind::kEnd;
    return event;
  }
  RETURN_IF_ERROR(filled);
  const uint32_t first = Get32(buffer_.get() + begin_);
  const uint32_t second = Get32(buffer_.get() + begin_ + 4);
  const SpdyFin fin = (second >> 24) & 1 ? SpdyFin::kYes : SpdyFin::kNo;
  const size_t length = second & 0xffffff;
  if ((first & 0x80000000u) == 0) {
    begin_ += kHead;
    data_stream_ = first;
    data_fin_ = fin;
    data_left_ = length;
    in_data_ = true;
    return DataPiece(timeout);
  }
  if (((first >> 16) & 0x7fff) != 3) return absl::DataLossError("a frame of another version");
  RETURN_IF_ERROR(Fill(kHead + length, timeout));
  const std::string_view payload(buffer_.get() + begin_ + kHead, length);
  auto event = Control(static_cast<uint16_t>(first), payload);
  begin_ += kHead + length;
  if (event.ok() && event->kind == SpdyEvent::Kind::kReply) event->fin = fin;
  return event;
}

}  // namespace test
