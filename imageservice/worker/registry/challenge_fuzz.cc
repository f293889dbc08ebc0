// Any bytes as challenge, token answer and redirect.
#include <string>
#include <string_view>

#include "imageservice/worker/registry/challenge.h"
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
  worker::ResolveUrl("https://registry.test/v2/", text).status().IgnoreError();
  worker::UrlOrigin(text).status().IgnoreError();
  for (const char c : worker::PrintableUrl(text)) {
    if (c < 0x20 || c > 0x7e) {
      __builtin_trap();
    }
  }
  return 0;
}
