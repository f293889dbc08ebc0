// policy.json: it accepts, or refuses with the kubelet's word.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "imageservice/reference.h"
#include "imageservice/signature_policy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::string_view kWord = "SignatureValidationFailed: ";
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto policy = imageservice::SignaturePolicy::Parse(text, "fuzz");
  if (!policy.ok()) {
    if (policy.status().message().substr(0, 4) != "fuzz") {
      std::abort();
    }
    return 0;
  }
  for (const std::string_view name : {"busybox", "a.b.io:5000/team/app:1"}) {
    const absl::Status status = policy->Check(imageservice::Reference::Parse(name).value());
    if (!status.ok() && status.message().substr(0, kWord.size()) != kWord.data()) {
      std::abort();
    }
  }
  return 0;
}
