// The log of a program that writes a JSON object per line, as OCI runtimes do.
#pragma once

#include <string>
#include <string_view>

namespace base {

// The message ("msg") of the last line that has level error, fatal or panic; empty if there is
// none. Lines that are not JSON are skipped.
std::string LastLogError(std::string_view log);

}  // namespace base
