// Giving the files of a volume the SELinux label of who uses them (CRI Mount.selinux_relabel).
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/context.h"
#include "base/lane.h"

namespace runtimeservice {

// The extended attribute that holds a file's label.
inline constexpr char kSelinuxAttribute[] = "security.selinux";

// Whether `path` (absolute, without symlinks) belongs to the host itself, so that another label
// would break it: "/", "/etc", "/usr" …; what lies in /home or in /var/lib may be relabelled. Pure.
bool IsHostDirectory(std::string_view path);

// Gives `path` and everything below it the label, mounts included, never following a symlink.
// A tree whose top has the label already is taken for done: the top gets it last. Files that have
// it are not written. What vanishes meanwhile, and file systems without labels, are passed over.
// `helpers`: a lane whose idle threads walk along; may be null. INVALID_ARGUMENT for a host
// directory. Blocks, until the context's deadline or cancellation: a repetition goes on from there.
absl::Status Relabel(const base::Context& ctx, const std::string& path, const std::string& label,
                     base::Lane* helpers, const char* attribute = kSelinuxAttribute);

// One file or folder alone.
absl::Status SetFileLabel(const std::string& path, const std::string& label,
                          const char* attribute = kSelinuxAttribute);

}  // namespace runtimeservice
