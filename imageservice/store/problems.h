// What is damaged in the image store, for people.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"

namespace imageservice {

// Thread-safe.
class Problems {
 public:
  // Remembers and logs what is wrong with `object` ("image <id>", "layer <chain id>"); its last
  // problem counts.
  void Add(const std::string& object, const std::string& what);
  // A pull has replaced the object.
  void Resolve(const std::string& object);
  // Sentences such as "image 4f53…: its record is damaged", by object.
  std::vector<std::string> List() const;

 private:
  mutable base::Mutex mutex_;
  std::map<std::string, std::string> problems_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageservice
