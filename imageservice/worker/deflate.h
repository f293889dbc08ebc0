// Archive stream → compressed stream: the other way of inflate.h.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "imageservice/worker/archive_protocol.h"

namespace imageservice::worker {

// Compresses a stream. The same input gives the same output by the same version of the library on
// the same kind of processor. One thread at a time.
class Deflater {
 public:
  // Takes a piece of the output; the piece dies when it returns. An error ends the compression.
  using Sink = std::function<absl::Status(std::string_view)>;

  virtual ~Deflater() = default;

  static std::unique_ptr<Deflater> Create(ArchiveCompression compression, Sink sink);

  // Errors are the sink's.
  virtual absl::Status Write(std::string_view bytes) = 0;
  // Tells that the input is complete. To be called once.
  virtual absl::Status Finish() = 0;
};

}  // namespace imageservice::worker
