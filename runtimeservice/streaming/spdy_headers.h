// Header blocks of SPDY/3.1 (draft 3.1, section 2.6.10): names and values, compressed by one zlib
// stream for each direction of a connection, each block flushed to a byte's border.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace streaming {

// The 1423 bytes that both zlib streams begin with.
std::string_view SpdyDictionary();

// More headers than this in a block are an error; the protocols spoken here have three.
inline constexpr size_t kMaxSpdyHeaders = 64;

// One block, in its order on the wire. Several values of a name are one value with NULs between.
class SpdyHeaders {
 public:
  // From the inflated block. INVALID_ARGUMENT when lengths or count do not fit its size, a name is
  // empty, or there are more than kMaxSpdyHeaders.
  static absl::StatusOr<SpdyHeaders> Parse(std::string_view block);
  // The block, not compressed yet.
  std::string Serialize() const;

  void Add(std::string_view name, std::string_view value) { headers_.emplace_back(name, value); }
  // The first value of `name`, which is compared without case; nothing when there is none. Valid as
  // long as this object.
  std::optional<std::string_view> Find(std::string_view name) const;
  size_t size() const { return headers_.size(); }

 private:
  std::vector<std::pair<std::string, std::string>> headers_;
};

// The client's blocks, in the order they came: each changes what the next one means. About 45 KiB
// once used.
class SpdyInflater {
 public:
  // No block may be larger than `max_block_bytes` when inflated.
  explicit SpdyInflater(size_t max_block_bytes);
  SpdyInflater(const SpdyInflater&) = delete;
  SpdyInflater& operator=(const SpdyInflater&) = delete;
  ~SpdyInflater();

  // The inflated block. INVALID_ARGUMENT for what is no zlib stream with this dictionary or does
  // not end with a sync flush, RESOURCE_EXHAUSTED for one that is too large; after an error the
  // stream cannot go on.
  absl::StatusOr<std::string> Inflate(std::string_view compressed);

 private:
  absl::Status Run(std::string* block);

  const size_t max_block_bytes_;
  z_stream stream_ = {};
  bool broken_ = false;
};

// Our blocks. What is sent here is small (an empty block, as a rule), so the window is the smallest
// there is: 9 KiB in all. `level` as zlib's; tests use all of them.
class SpdyDeflater {
 public:
  explicit SpdyDeflater(int level = Z_DEFAULT_COMPRESSION);
  SpdyDeflater(const SpdyDeflater&) = delete;
  SpdyDeflater& operator=(const SpdyDeflater&) = delete;
  ~SpdyDeflater();

  // `block` compressed, up to and with its sync flush.
  std::string Deflate(std::string_view block);

 private:
  z_stream stream_ = {};
};

}  // namespace streaming
