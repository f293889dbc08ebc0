// Stop signals: the CRI's enumeration, an image's text and the kernel's number.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "proto/cri.h"

namespace runtimeservice {

// The kernel's number of a CRI signal; INVALID_ARGUMENT for a value that is none.
// SIGNAL_RUNTIME_DEFAULT is 0.
absl::StatusOr<int> SignalNumber(cri::Signal signal);

// The CRI's value for a kernel number; SIGNAL_RUNTIME_DEFAULT for a number that is no signal.
cri::Signal CriSignal(int number);

// An image's StopSignal: "SIGTERM", "TERM", "SIGRTMIN+3" or "15"; INVALID_ARGUMENT for others.
absl::StatusOr<int> ParseSignal(std::string_view text);

// The signal that stops a container: the request's, else the image's, else SIGTERM. An image's text
// that makes no sense counts as none.
absl::StatusOr<int> StopSignal(cri::Signal requested, std::string_view image_signal);

}  // namespace runtimeservice
