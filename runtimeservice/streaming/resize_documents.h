// The resize stream of a terminal: {"Width":80,"Height":24}, one JSON document after another.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "runtimeservice/streaming/command_client.h"

namespace streaming {

// Finds the documents in bytes that come in whatever pieces. Not thread-safe.
class ResizeDocuments {
 public:
  static constexpr size_t kMaxDocumentBytes = 1024;

  // Tells `input` of each size that `bytes` complete; a size with a 0 is left out. INVALID_ARGUMENT
  // for what is no such document, RESOURCE_EXHAUSTED for one longer than kMaxDocumentBytes: the
  // stream is of no use then.
  absl::Status Take(std::string_view bytes, CommandInput& input);

 private:
  std::string document_;  // As far as it came.
  bool in_text_ = false;  // Within a JSON string,
  bool escaped_ = false;  // behind a backslash.
};

}  // namespace streaming
