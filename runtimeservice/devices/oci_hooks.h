// Folders of OCI hooks: files of the node's administrator that add hooks to containers that match
// (oci-hooks(5), version 1.0.0).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/folder_files.h"
#include "base/json.h"
#include "proto/cri.h"
#include "runtimeservice/devices/oci_hook.h"

namespace runtimeservice {

// One file: a hook, its stages, and the containers that get it. What is absent asks for nothing; a
// file that asks for nothing at all matches no container.
struct OciHookFile {
  OciHook hook;
  std::vector<std::string> stages;
  std::optional<bool> always;
  std::map<std::string, std::string> annotations;  // Pattern of the name → pattern of the value.
  std::vector<std::string> commands;               // Patterns of the program; one must match.
  std::optional<bool> has_bind_mounts;
};

// What the conditions of a file are about.
struct HookSubject {
  const std::map<std::string, std::string>& annotations;
  std::string command;  // args[0] of the process.
  bool has_bind_mounts = false;
};

// INVALID_ARGUMENT, naming the member, for what is not a hook of version 1.0.0: unknown stages,
// patterns that are no regular expressions (of RE2, whose syntax Go has too).
absl::StatusOr<OciHookFile> ParseOciHookFile(std::string_view text);

// Whether all conditions hold. Pure.
bool HookMatches(const OciHookFile& file, const HookSubject& subject);

// Looks at the folders again at each use. A bad file is logged once and left out, as is a hook
// whose program is not there: no pod of the node can be refused by one. Thread-safe.
class OciHooks {
 public:
  // Of files with one name that of the later folder counts.
  explicit OciHooks(std::vector<std::string> folders);

  // Adds the matching hooks to `spec`, by file name without regard to case, after those it has. The
  // pod's annotations win over the container's.
  void Apply(const cri::PodSandboxConfig& pod, const cri::ContainerConfig& container,
             base::OrderedJson* spec);

 private:
  using Files = std::map<std::string, OciHookFile>;  // By lower-case name, then name.
  static Files Load(const base::FolderFiles& folder, base::FolderProblems* problems);

  base::FolderCache<Files> files_;
};

}  // namespace runtimeservice
