// Any bytes as challenge, token answer, redirect, Retry-After and Content-Range.
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "imageservice/worker/registry/attempts.h"
#include "imageservice/worker/registry/challenge.h"
#include "imageservice/worker/registry/response_fields.h"
#include "imageservice/worker/registry/url.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace worker = imageservice::worker;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const worker::Challenge& challenge : worker::ParseChallenges(text)) {
    if (challenge.scheme.empty()) {
      __builtin_trap();
    }
  }
  if (const auto token = worker::ParseTokenAnswer(text); token.ok()) {
    if (!worker::IsHeaderToken(token->token)) {
      __builtin_trap();
    }
  }
  const absl::Time now = absl::FromUnixSeconds(784111777);
  if (const auto wait = worker::ParseRetryAfter(text, now); wait.has_value()) {
    const absl::Duration delay = worker::RetryDelay(1, text, now);
    if (*wait < absl::ZeroDuration() || delay < absl::ZeroDuration() || delay > absl::Seconds(60)) {
      __builtin_trap();
    }
  }
  if (const auto range = worker::ParseContentRange(text); range.has_value()) {
    if (range->last < range->first || (range->size.has_value() && *range->size <= range->last)) {
      __builtin_trap();
    }
  }
  worker::ResolveUrl("https://registry.test/v2/", text).status().IgnoreError();
  worker::UrlOrigin(text).status().IgnoreError();
  for (const char c : worker::PrintableUrl(text)) {
    if (c < 0x20 || c > 0x7e) {
      __builtin_trap();
    }
  }
  return 0;
}
