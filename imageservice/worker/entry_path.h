// Paths within a layer, as text.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace imageservice::worker {

inline constexpr size_t kMaxEntryPath = 4095;  // Bytes.
inline constexpr size_t kMaxEntryDepth = 256;  // Components.

// The path of an entry relative to the root: without "." and empty components, ".." resolved in the
// text; "." for the root itself. INVALID_ARGUMENT when it leaves the root, is longer than
// kMaxEntryPath or deeper than kMaxEntryDepth.
absl::StatusOr<std::string> CleanEntryPath(std::string_view path);

// Of a path that CleanEntryPath returned: the folder it is in ("." for the root's and for "."
// itself), its last component, and a path below it.
std::string ParentPath(const std::string& path);
std::string LastComponent(const std::string& path);
std::string JoinPath(const std::string& directory, std::string_view name);

}  // namespace imageservice::worker
