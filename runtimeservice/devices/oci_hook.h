// A program that the OCI runtime runs at a stage of a container's life (runtime-spec,
// "POSIX-platform Hooks").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/json.h"

namespace runtimeservice {

struct OciHook {
  std::string path;               // Absolute.
  std::vector<std::string> args;  // With the program's name first; empty: none.
  std::vector<std::string> env;   // "NAME=value".
  std::optional<int64_t> timeout_seconds;
};

// Whether `stage` is one of "prestart", "createRuntime", "createContainer", "startContainer",
// "poststart" and "poststop".
bool IsHookStage(std::string_view stage);

// The members path, args, env and timeout of `object`; others are not looked at. INVALID_ARGUMENT,
// naming the member, for a path that is not absolute, a variable without a name, a timeout of 0.
absl::StatusOr<OciHook> ReadOciHook(const base::Json& object);

// Adds `hook` after those that config.json has at `stage`.
void AddOciHook(const OciHook& hook, const std::string& stage, base::OrderedJson* spec);

// OK if each of `env` is "NAME=value" without a NUL.
absl::Status CheckEnvironment(const std::vector<std::string>& env);

}  // namespace runtimeservice
