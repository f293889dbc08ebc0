#include "base/process_stat.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

// Places behind the name, from 0: proc(5) counts from 3 there.
constexpr size_t kState = 0;
constexpr size_t kParent = 1;
constexpr size_t kFlags = 6;
constexpr size_t kStartTime = 19;

constexpr uint64_t kExiting = 0x4;  // PF_EXITING of the kernel's flags.

}  // namespace

absl::StatusOr<ProcessStat> ReadProcessStat(pid_t pid) {
  const std::string path = StrCat("/proc/", pid, "/stat");
  const absl::StatusOr<std::string> text = ReadFile(path, 4096);
  if (!text.ok()) {
    // A process that goes while its file is read is as good as gone.
    return absl::NotFoundError(StrCat(path, ": ", text.status().message()));
  }
  // "pid (name) state parent …"; the name may hold anything, so look behind its last bracket.
  const std::vector<std::string> fields =
      absl::StrSplit(text->substr(std::min(text->rfind(')') + 2, text->size())), ' ');
  ProcessStat stat;
  uint64_t flags = 0;
  if (fields.size() <= kStartTime || !absl::SimpleAtoi(fields[kParent], &stat.parent) ||
      !absl::SimpleAtoi(fields[kFlags], &flags) ||
      !absl::SimpleAtoi(fields[kStartTime], &stat.start_time)) {
    return absl::UnknownError(StrCat(path, ": not the kernel's format"));
  }
  stat.ended = fields[kState] == "Z" || fields[kState] == "X" || (flags & kExiting) != 0;
  return stat;
}

}  // namespace base
