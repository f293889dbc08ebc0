// Compressed stream → archive stream, as the bytes arrive. The compression is told by its magic
// bytes, not by a media type.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace imageservice::worker {

// gzip (RFC 1952: several members are one stream, zeros may follow the last one), zstd (RFC 8878:
// several frames, skippable ones too, are one stream; windows up to 128 MiB) or no compression.
// bzip2 and xz are refused by name. Memory is fixed but for zstd's window. One thread at a time.
class Inflater {
 public:
  // Takes a piece of the output; the piece dies when it returns. An error ends the inflation.
  using Sink = std::function<absl::Status(std::string_view)>;

  explicit Inflater(Sink sink);
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // INVALID_ARGUMENT for data that does not decompress; else what the sink says. After an error the
  // inflater must not be used any more.
  absl::Status Write(std::string_view compressed);

  // Tells that the input is complete; INVALID_ARGUMENT when it ends too early.
  absl::Status Finish();

  // One compression format.
  class Codec;

 private:
  absl::Status Start();

  const Sink sink_;
  std::string head_;  // The first bytes, until there are enough to tell the format.
  std::unique_ptr<Codec> codec_;
};

}  // namespace imageservice::worker
