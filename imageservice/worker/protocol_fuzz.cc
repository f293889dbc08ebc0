// Any bytes as a message to the daemon: what parses is written back as the same.
#include <string_view>

#include "imageservice/worker/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace worker = imageservice::worker;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto message = worker::ParseWorkerMessage(text); message.ok()) {
    const auto again = worker::ParseWorkerMessage(worker::Encode(*message));
    if (!again.ok() || worker::Encode(*again) != worker::Encode(*message)) {
      __builtin_trap();
    }
  }
  worker::ParseDaemonMessage(text).status().IgnoreError();
  return 0;
}
