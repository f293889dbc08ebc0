// Any bytes as a compressed stream, whole and in pieces: both must say the same.
#include <string>
#include <string_view>

#include "imageservice/worker/inflate.h"

namespace {

constexpr size_t kMaxOutput = 4 << 20;

// The output in pieces of `step`; "(error)" for an error.
std::string Inflate(std::string_view bytes, size_t step) {
  std::string out;
  imageservice::worker::Inflater inflater([&out](std::string_view piece) {
    out += piece;
    return out.size() > kMaxOutput ? absl::ResourceExhaustedError("enough") : absl::OkStatus();
  });
  for (size_t i = 0; i < bytes.size(); i += step) {
    if (!inflater.Write(bytes.substr(i, step)).ok()) {
      return "(error)";
    }
  }
  return inflater.Finish().ok() ? out : "(error)";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (Inflate(bytes, bytes.size() + 1) != Inflate(bytes, 3)) {
    __builtin_trap();
  }
  return 0;
}
