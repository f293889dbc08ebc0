// Header fields of answers that say when and what: Retry-After and Content-Range (RFC 9110).
// Parsers of foreign text.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/time/time.h"

namespace imageservice::worker {

// The wait a Retry-After asks for: seconds, or an HTTP date in any of its three forms (RFC 9110
// section 5.6.7). Not negative; nullopt for anything else.
std::optional<absl::Duration> ParseRetryAfter(std::string_view value, absl::Time now);

// Which bytes of how many a 206 carries: `bytes 0-99/1234`.
struct ContentRange {
  uint64_t first = 0;
  uint64_t last = 0;             // Inclusive; not before `first`.
  std::optional<uint64_t> size;  // Of the whole; the server may not say.
};
std::optional<ContentRange> ParseContentRange(std::string_view value);

}  // namespace imageservice::worker
