#include "base/symlinks.h"

#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"

namespace base {
namespace {

constexpr int kMaxSymlinks = 40;
constexpr size_t kMaxPath = 4095;
constexpr size_t kMaxDepth = 256;

// Puts the components of `path` before those that are still to be walked, the next one of which is
// the last.
void Push(std::string_view path, std::vector<std::string>* pending) {
  const auto old_size = static_cast<std::ptrdiff_t>(pending->size());
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, end - begin);
    if (!component.empty() && component != ".") {
      pending->emplace_back(component);
    }
    begin = end + 1;
  }
  std::reverse(pending->begin() + old_size, pending->end());
}

}  // namespace

absl::StatusOr<std::string> ResolveSymlinks(std::string_view path, const SymlinkReader& read) {
  std::vector<std::string> pending;
  Push(path, &pending);
  std::string at;
  for (int symlinks = 0; !pending.empty();) {
    const std::string component = std::move(pending.back());
    pending.pop_back();
    if (component == "..") {
      at.resize(at.find('/') == std::string::npos ? 0 : at.rfind('/'));
      continue;
    }
    std::string next = at.empty() ? component : StrCat(at, "/", component);
    const auto depth = static_cast<size_t>(std::ranges::count(next, '/')) + 1;
    if (next.size() > kMaxPath || depth > kMaxDepth || pending.size() > kMaxDepth) {
      return absl::InvalidArgumentError("the path is too long without its symlinks");
    }
    ASSIGN_OR_RETURN(const std::string target, read(next));
    if (target.empty()) {
      at = std::move(next);
      continue;
    }
    if (++symlinks > kMaxSymlinks) {
      return absl::InvalidArgumentError("the path has too many symlinks");
    }
    Push(target, &pending);
    if (target.starts_with('/')) {
      at.clear();
    }
  }
  return at.empty() ? "." : at;
}

}  // namespace base
