// What the tests of this folder stand on: a network and a mount namespace of their own, so that no
// bridge, packet filter rule or pin touches the machine, and plugins made of shell script.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace network {

// Why this process could not leave the machine's namespaces; empty when it did.
const std::string& IsolationError();

#define SKIP_UNLESS_ISOLATED()                                         \
  if (!IsolationError().empty()) {                                     \
    GTEST_SKIP() << "SKIP: a network namespace: " << IsolationError(); \
  }

// A directory that goes with the scope, mounts in it included.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const;

 private:
  std::string path_;
};

// Makes the file with its parent directories; aborts the test program when that is impossible.
void WriteTestFile(const std::string& path, std::string_view text, unsigned mode = 0644);
std::string ReadTestFile(const std::string& path);
std::vector<std::string> ReadLines(const std::string& path);

// Polls until `condition` holds; false when it does not within `limit`.
bool Eventually(const std::function<bool()>& condition, absl::Duration limit = absl::Seconds(20));

// Runs `work` on a thread in the namespace pinned at `pin`.
void InNamespace(const std::string& pin, const std::function<void()>& work);

}  // namespace network
