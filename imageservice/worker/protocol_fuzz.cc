// Any bytes as a message to the daemon: what parses is written back as the same.
#include <string_view>

#include "imageservice/worker/protocol.h"
#include "imageservice/worker/verdict.h"

namespace imageservice::worker {
namespace {

template <typename Message>
void GoThere(std::string_view text, absl::StatusOr<Message> (*parse)(std::string_view)) {
  if (const auto message = parse(text); message.ok()) {
    const auto again = parse(Encode(*message));
    if (!again.ok() || Encode(*again) != Encode(*message)) {
      __builtin_trap();
    }
  }
}

}  // namespace
}  // namespace imageservice::worker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace worker = imageservice::worker;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  worker::GoThere(text, worker::ParseWorkerMessage);
  worker::GoThere(text, worker::ParseLayerMessage);
  worker::ParseDaemonMessage(text).status().IgnoreError();
  if (const auto verdict = worker::ParseVerdict(text);
      verdict.ok() && worker::EncodeVerdict(*verdict) != text) {
    __builtin_trap();
  }
  return 0;
}
