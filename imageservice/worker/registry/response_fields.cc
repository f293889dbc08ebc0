#include "imageservice/worker/registry/response_fields.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr size_t kLongestDate = 64;

std::string_view Strip(std::string_view text) {
  return base::ToStd(absl::StripAsciiWhitespace(base::ToAbsl(text)));
}

// Digits and nothing else: SimpleAtoi takes signs and spaces too.
std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t number = 0;
  const bool is_digits =
      !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  if (!is_digits || !absl::SimpleAtoi(base::ToAbsl(text), &number)) {
    return std::nullopt;
  }
  return number;
}

}  // namespace

std::optional<absl::Duration> ParseRetryAfter(std::string_view value, absl::Time now) {
  value = Strip(value);
  if (const std::optional<uint64_t> seconds = ParseNumber(value)) {
    return absl::Seconds(std::min<uint64_t>(*seconds, 1'000'000'000));
  }
  if (value.size() > kLongestDate) {
    return std::nullopt;
  }
  for (const char* format :
       {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"}) {
    absl::Time time;
    if (absl::ParseTime(format, base::ToAbsl(value), &time, nullptr)) {
      return std::max(absl::ZeroDuration(), time - now);
    }
  }
  return std::nullopt;
}

std::optional<ContentRange> ParseContentRange(std::string_view value) {
  value = Strip(value);
  constexpr std::string_view kUnit = "bytes ";
  const size_t dash = value.find('-');
  const size_t slash = value.find('/');
  if (value.size() < kUnit.size() ||
      absl::AsciiStrToLower(base::ToAbsl(value.substr(0, kUnit.size()))) != base::ToAbsl(kUnit) ||
      dash == std::string_view::npos || slash == std::string_view::npos || dash > slash) {
    return std::nullopt;
  }
  const auto first = ParseNumber(value.substr(kUnit.size(), dash - kUnit.size()));
  const auto last = ParseNumber(value.substr(dash + 1, slash - dash - 1));
  const std::string_view whole = value.substr(slash + 1);
  const auto size = ParseNumber(whole);
  if (!first.has_value() || !last.has_value() || *last < *first ||
      (!size.has_value() && whole != "*") || (size.has_value() && *size <= *last)) {
    return std::nullopt;
  }
  return ContentRange{*first, *last, size};
}

}  // namespace imageservice::worker
