#include "runtimeservice/streaming/spdy_headers.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/match.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/streaming/spdy_numbers.h"

namespace streaming {
namespace {

constexpr std::string_view kSyncFlush("\0\0\xff\xff", 4);
constexpr size_t kInflateStep = 4096;
// Of the smallest deflate state: a window of 512 bytes, and hash chains to suit.
constexpr int kWindowBits = 9;
constexpr int kMemoryLevel = 1;

// Takes 32 bits off the front of `block`; nothing when they are not there.
std::optional<uint32_t> TakeNumber(std::string_view* block) {
  if (block->size() < 4) {
    return std::nullopt;
  }
  const uint32_t number = SpdyNumber(*block);
  block->remove_prefix(4);
  return number;
}

std::optional<std::string_view> TakeText(std::string_view* block) {
  const std::optional<uint32_t> size = TakeNumber(block);
  if (!size.has_value() || *size > block->size()) {
    return std::nullopt;
  }
  const std::string_view text = block->substr(0, *size);
  block->remove_prefix(*size);
  return text;
}

// zlib does not write through next_in; its type only says so when Z_CONST is defined.
Bytef* ToZlib(std::string_view bytes) {
  return const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
}

void SetInput(std::string_view bytes, z_stream* stream) {
  stream->next_in = ToZlib(bytes);
  stream->avail_in = static_cast<uInt>(bytes.size());
}

// Whether all input is used and the next byte begins another deflate block. In data_type 128 says
// that a block has ended, 64 that no other may follow, and the low bits what is left of the last
// byte.
bool AtBorder(const z_stream& stream) { return stream.avail_in == 0 && stream.data_type == 128; }

}  // namespace

absl::StatusOr<SpdyHeaders> SpdyHeaders::Parse(std::string_view block) {
  const std::optional<uint32_t> count = TakeNumber(&block);
  if (!count.has_value()) {
    return absl::InvalidArgumentError("header block without a count");
  }
  if (*count > kMaxSpdyHeaders) {
    return absl::InvalidArgumentError(
        base::StrCat("header block of ", *count, " headers: at most ", kMaxSpdyHeaders));
  }
  SpdyHeaders headers;
  for (uint32_t number = 0; number < *count; ++number) {
    const std::optional<std::string_view> name = TakeText(&block);
    if (!name.has_value() || name->empty()) {
      return absl::InvalidArgumentError("header block with a bad name");
    }
    const std::optional<std::string_view> value = TakeText(&block);
    if (!value.has_value()) {
      return absl::InvalidArgumentError("header block with a bad value");
    }
    headers.Add(*name, *value);
  }
  if (!block.empty()) {
    return absl::InvalidArgumentError("header block with bytes behind its last header");
  }
  return headers;
}

std::string SpdyHeaders::Serialize() const {
  std::string block;
  AppendSpdyNumber(static_cast<uint32_t>(headers_.size()), &block);
  for (const auto& [name, value] : headers_) {
    AppendSpdyNumber(static_cast<uint32_t>(name.size()), &block);
    block += name;
    AppendSpdyNumber(static_cast<uint32_t>(value.size()), &block);
    block += value;
  }
  return block;
}

std::optional<std::string_view> SpdyHeaders::Find(std::string_view name) const {
  const auto found = std::find_if(headers_.begin(), headers_.end(), [name](const auto& header) {
    return absl::EqualsIgnoreCase(header.first, base::ToAbsl(name));
  });
  if (found == headers_.end()) {
    return std::nullopt;
  }
  const std::string_view values = found->second;
  return values.substr(0, values.find('\0'));
}

SpdyInflater::SpdyInflater(size_t max_block_bytes) : max_block_bytes_(max_block_bytes) {
  // Fails only for want of memory.
  if (inflateInit(&stream_) != Z_OK) {
    std::abort();
  }
}

SpdyInflater::~SpdyInflater() { inflateEnd(&stream_); }

absl::StatusOr<std::string> SpdyInflater::Inflate(std::string_view compressed) {
  if (broken_) {
    return absl::InvalidArgumentError("header block after one that could not be inflated");
  }
  broken_ = true;
  if (!compressed.ends_with(kSyncFlush)) {
    return absl::InvalidArgumentError("header block that does not end with a sync flush");
  }
  SetInput(compressed, &stream_);
  std::string block;
  RETURN_IF_ERROR(Run(&block));
  if (!AtBorder(stream_)) {
    return absl::InvalidArgumentError("header block that is no whole number of deflate blocks");
  }
  broken_ = false;
  return block;
}

absl::Status SpdyInflater::Run(std::string* block) {
  while (true) {
    const size_t before = block->size();
    // One byte more than allowed, so that a block of just the allowed size is seen to end.
    const size_t step = std::min(kInflateStep, max_block_bytes_ + 1 - before);
    block->resize(before + step);
    stream_.next_out = reinterpret_cast<Bytef*>(block->data() + before);
    stream_.avail_out = static_cast<uInt>(step);
    int result = inflate(&stream_, Z_SYNC_FLUSH);
    if (result == Z_NEED_DICT) {
      const std::string_view dictionary = SpdyDictionary();
      if (inflateSetDictionary(&stream_, ToZlib(dictionary),
                               static_cast<uInt>(dictionary.size())) != Z_OK) {
        return absl::InvalidArgumentError("header block for another dictionary");
      }
      result = inflate(&stream_, Z_SYNC_FLUSH);
    }
    block->resize(before + step - stream_.avail_out);
    // Z_BUF_ERROR: there was nothing to do, which is no error.
    if (result != Z_OK && result != Z_BUF_ERROR) {
      return absl::InvalidArgumentError(
          base::StrCat("header block: ", stream_.msg != nullptr ? stream_.msg : "not deflated"));
    }
    if (block->size() > max_block_bytes_) {
      return absl::ResourceExhaustedError(
          base::StrCat("header block: more than max_header_bytes (", max_block_bytes_, ")"));
    }
    // At the border nothing is left to come, and asking again would lose the fact.
    if (stream_.avail_out > 0 || AtBorder(stream_)) {
      return absl::OkStatus();
    }
  }
}

SpdyDeflater::SpdyDeflater(int level) {
  const std::string_view dictionary = SpdyDictionary();
  // Both fail only for want of memory.
  if (deflateInit2(&stream_, level, Z_DEFLATED, kWindowBits, kMemoryLevel, Z_DEFAULT_STRATEGY) !=
          Z_OK ||
      deflateSetDictionary(&stream_, ToZlib(dictionary), static_cast<uInt>(dictionary.size())) !=
          Z_OK) {
    std::abort();
  }
}

SpdyDeflater::~SpdyDeflater() { deflateEnd(&stream_); }

std::string SpdyDeflater::Deflate(std::string_view block) {
  SetInput(block, &stream_);
  std::string compressed;
  do {
    const size_t before = compressed.size();
    // Room for the flush of a small block at once: a second flush with nothing new would add
    // another empty block.
    const size_t step = block.size() + 64;
    compressed.resize(before + step);
    stream_.next_out = reinterpret_cast<Bytef*>(compressed.data() + before);
    stream_.avail_out = static_cast<uInt>(step);
    deflate(&stream_, Z_SYNC_FLUSH);
    compressed.resize(before + step - stream_.avail_out);
  } while (stream_.avail_out == 0);
  return compressed;
}

}  // namespace streaming
