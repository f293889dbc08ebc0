// The door to libyaml: YAML read into the same values as JSON. It returns a status and never
// throws.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "base/json.h"

namespace base {

// The one document in `text`, by the core schema of YAML 1.2: plain scalars are null, true and
// false, numbers (also 0x1f, 0o17 and, as YAML 1.1 has it, 017), else strings; no text is null.
// INVALID_ARGUMENT with the line for anything else, and for what a file of settings has no need of:
// a second document, anchors and aliases, tags other than !!str, a member that is there twice or
// whose name is not a scalar, nesting deeper than 64 levels, more than 500,000 values.
absl::StatusOr<Json> ParseYaml(std::string_view text);

}  // namespace base
