#include "imageservice/worker/entry_path.h"

#include <algorithm>
#include <vector>

#include "base/strings.h"

namespace imageservice::worker {

absl::StatusOr<std::string> CleanEntryPath(std::string_view path) {
  std::vector<std::string_view> components;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, end - begin);
    begin = end + 1;
    if (component.empty() || component == ".") {
      continue;
    }
    if (component != "..") {
      components.push_back(component);
    } else if (components.empty()) {
      return absl::InvalidArgumentError("the path leads out of the layer");
    } else {
      components.pop_back();
    }
  }
  if (components.size() > kMaxEntryDepth) {
    return absl::InvalidArgumentError(
        base::StrCat("the path has more than ", kMaxEntryDepth, " parts"));
  }
  std::string clean;
  for (const std::string_view component : components) {
    clean += clean.empty() ? "" : "/";
    clean += component;
  }
  if (clean.size() > kMaxEntryPath) {
    return absl::InvalidArgumentError(
        base::StrCat("the path is longer than ", kMaxEntryPath, " bytes"));
  }
  return clean.empty() ? "." : clean;
}

std::string ParentPath(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string LastComponent(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string JoinPath(const std::string& directory, std::string_view name) {
  return directory == "." ? std::string(name) : base::StrCat(directory, "/", name);
}

}  // namespace imageservice::worker
