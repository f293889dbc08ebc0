// For tests of unpacking: a layer's folder, and beside it what no archive may touch.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/files.h"
#include "imageservice/worker/test_archive.h"
#include "imageservice/worker/unpack.h"

namespace imageservice::worker {

// A layer's folder in a directory with a file beside it that no archive may touch.
class UnpackFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "SKIP: root";
    }
    root_ = temp_.path() + "/root";
    ASSERT_EQ(mkdir(root_.c_str(), 0755), 0);
    ASSERT_EQ(mkdir((temp_.path() + "/outside").c_str(), 0755), 0);
    ASSERT_TRUE(base::ReplaceFile(Victim(), "untouched", 0600, base::Durability::kVolatile).ok());
  }

  void TearDown() override {
    if (geteuid() == 0) {
      EXPECT_EQ(base::ReadFile(Victim()).value_or("gone"), "untouched");
      struct stat found = {};
      ASSERT_EQ(lstat(Victim().c_str(), &found), 0);
      EXPECT_EQ(found.st_mode & 07777, 0600u);
      EXPECT_EQ(found.st_nlink, 1u);
      EXPECT_THAT(base::ListDirectory(temp_.path() + "/outside").value(),
                  ::testing::ElementsAre("victim"));
      EXPECT_THAT(base::ListDirectory(temp_.path()).value(),
                  ::testing::ElementsAre("outside", "root"));
    }
  }

  std::string Victim() const { return temp_.path() + "/outside/victim"; }
  std::string At(const std::string& path) const { return root_ + "/" + path; }

  absl::StatusOr<LayerTree::Summary> UnpackBytes(const std::string& bytes,
                                                 uint64_t max_entries = 10'000) {
    const base::UniqueFd archive(memfd_create("archive", MFD_CLOEXEC));
    EXPECT_TRUE(base::WriteAll(archive.get(), bytes, "archive").ok());
    lseek(archive.get(), 0, SEEK_SET);
    const base::UniqueFd root(open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return UnpackLayer(archive.get(), root.get(), max_entries);
  }
  absl::StatusOr<LayerTree::Summary> Unpack(const std::vector<TarEntry>& entries) {
    return UnpackBytes(Tar(entries));
  }
  // Unpacks what must succeed.
  LayerTree::Summary MustUnpack(const std::vector<TarEntry>& entries) {
    const auto summary = Unpack(entries);
    EXPECT_TRUE(summary.ok()) << summary.status();
    return summary.value_or(LayerTree::Summary());
  }

  struct stat Stat(const std::string& path) const {
    struct stat found = {};
    EXPECT_EQ(lstat(At(path).c_str(), &found), 0) << path;
    return found;
  }
  bool Exists(const std::string& path) const { return base::Exists(At(path)); }
  std::string Content(const std::string& path) const {
    return base::ReadFile(At(path)).value_or("(unreadable)");
  }
  std::string Target(const std::string& path) const {
    char target[5000];
    const ssize_t size = readlink(At(path).c_str(), target, sizeof(target));
    return size < 0 ? "(no symlink)" : std::string(target, static_cast<size_t>(size));
  }
  bool IsWhiteout(const std::string& path) const {
    const struct stat found = Stat(path);
    return S_ISCHR(found.st_mode) && found.st_rdev == 0;
  }
  static std::vector<std::string> Paths(const LayerTree::Summary& summary,
                                        DeferredOperation::Kind kind) {
    std::vector<std::string> paths;
    for (const DeferredOperation& operation : summary.deferred) {
      if (operation.kind == kind) {
        paths.push_back(operation.path + (operation.target.empty() ? "" : " -> ") +
                        operation.target);
      }
    }
    return paths;
  }

  TempDirectory temp_;
  std::string root_;
};

}  // namespace imageservice::worker
