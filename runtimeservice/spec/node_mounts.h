// Mounts that the node's configuration gives to every container: default_mounts_file, timezone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtimeservice/spec/host_sources.h"

namespace runtimeservice {

// What the configuration asks for.
struct NodeMounts {
  std::vector<ExtraMount> defaults;  // Of default_mounts_file; sources not looked at yet.
  std::string timezone;              // "Local", a name such as "Europe/Berlin", or empty.
};

// The lines of a file in the form of containers-mounts.conf(5): "SOURCE:DESTINATION", or one path
// for both; "#" begins a comment. INVALID_ARGUMENT, beginning with the line's number, for others.
// Pure.
absl::StatusOr<std::vector<ExtraMount>> ParseMountsFile(std::string_view text);

// OK for the name of a time zone; INVALID_ARGUMENT for what could be another file. Pure.
absl::Status CheckTimezone(std::string_view name);

// The mounts whose sources are there, symlinks resolved. What is missing is left out, but for a
// named time zone: FAILED_PRECONDITION. Looks at the host's file systems.
absl::StatusOr<std::vector<ExtraMount>> ResolveNodeMounts(const NodeMounts& mounts);

}  // namespace runtimeservice
