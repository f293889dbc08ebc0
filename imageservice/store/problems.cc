#include "imageservice/store/problems.h"

#include "base/log.h"
#include "base/strings.h"

namespace imageservice {

void Problems::Add(const std::string& object, const std::string& what) {
  base::LogError("image store: ", object, ": ", what);
  base::MutexLock lock(&mutex_);
  problems_[object] = what;
}

void Problems::Resolve(const std::string& object) {
  base::MutexLock lock(&mutex_);
  if (problems_.erase(object) > 0) {
    base::LogInfo("image store: ", object, ": repaired");
  }
}

std::vector<std::string> Problems::List() const {
  base::MutexLock lock(&mutex_);
  std::vector<std::string> list;
  list.reserve(problems_.size());
  for (const auto& [object, what] : problems_) {
    list.push_back(base::StrCat(object, ": ", what));
  }
  return list;
}

}  // namespace imageservice
