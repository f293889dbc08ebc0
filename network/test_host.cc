#include "network/test_host.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/mounts.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "gtest/gtest.h"
#include "network/netns.h"

namespace network {
namespace {

std::string g_isolation_error;

void Isolate() {
  if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0 ||
      mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
    g_isolation_error = std::strerror(errno);
    return;
  }
  g_isolation_error = std::string(BringUpLoopback().message());
}

void Require(bool ok, const std::string& what) {
  if (!ok) {
    std::perror(what.c_str());
    std::abort();
  }
}

}  // namespace

const std::string& IsolationError() { return g_isolation_error; }

TempDir::TempDir() {
  char pattern[] = "/tmp/network-test-XXXXXX";
  Require(mkdtemp(pattern) != nullptr, "mkdtemp");
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path_, ignored)) {
    umount2(entry.path().c_str(), MNT_DETACH);
  }
  std::filesystem::remove_all(path_, ignored);
}

std::string TempDir::operator/(std::string_view name) const {
  return base::StrCat(path_, "/", name);
}

void WriteTestFile(const std::string& path, std::string_view text, unsigned mode) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  const base::UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  Require(file.valid() &&
              write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()),
          path);
}

std::string ReadTestFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::string> ReadLines(const std::string& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  return lines;
}

bool Eventually(const std::function<bool()>& condition, absl::Duration limit) {
  const absl::Time end = absl::Now() + limit;
  while (!condition()) {
    if (absl::Now() > end) {
      return false;
    }
    poll(nullptr, 0, 2);
  }
  return true;
}

void InNamespace(const std::string& pin, const std::function<void()>& work) {
  std::thread thread([&] {
    const base::UniqueFd file(open(pin.c_str(), O_RDONLY | O_CLOEXEC));
    Require(file.valid() && setns(file.get(), 0) == 0, pin);
    work();
  });
  thread.join();
}

}  // namespace network

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  network::Isolate();
  return RUN_ALL_TESTS();
}
