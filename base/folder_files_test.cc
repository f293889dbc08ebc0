#include "base/folder_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "base/files.h"

namespace base {
namespace {

class FolderFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-folder-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    top_ = name;
    folders_ = {top_ + "/a", top_ + "/missing", top_ + "/b"};
    ASSERT_TRUE(MakeDirectories(folders_[0]).ok());
    ASSERT_TRUE(MakeDirectories(folders_[2]).ok());
  }
  void TearDown() override { std::filesystem::remove_all(top_); }

  void Write(const std::string& path, const std::string& text) const {
    ASSERT_TRUE(ReplaceFile(top_ + "/" + path, text, 0644, Durability::kVolatile).ok());
  }
  FolderFiles Look() const {
    constexpr std::string_view kExtensions[] = {".json", ".yaml"};
    return LookAtFolders(folders_, kExtensions);
  }

  std::string top_;
  std::vector<std::string> folders_;
};

TEST_F(FolderFilesTest, FilesComeByFolderAndNameWithTheWantedExtensions) {
  Write("b/1.json", "");
  Write("a/2.yaml", "");
  Write("a/1.json", "");
  Write("a/other.txt", "");
  std::filesystem::create_directory(folders_[0] + "/folder.json");
  ASSERT_EQ(mkfifo((folders_[0] + "/fifo.json").c_str(), 0600), 0);
  std::filesystem::create_symlink("1.json", folders_[0] + "/link.json");
  std::vector<std::string> names;
  for (const FolderFile& file : Look().files) {
    names.push_back(std::to_string(file.folder) + file.name);
  }
  EXPECT_THAT(names, testing::ElementsAre("01.json", "02.yaml", "0link.json", "21.json"));
}

TEST_F(FolderFilesTest, EveryChangeIsAnotherState) {
  std::string before = Look().state;
  EXPECT_EQ(Look().state, before);
  const auto expect_change = [&](const std::string& what) {
    const std::string now = Look().state;
    EXPECT_NE(now, before) << what;
    before = now;
  };
  Write("a/1.json", "x");
  expect_change("new file");
  Write("a/1.json", "y");
  expect_change("replaced by another of the same size");
  std::filesystem::remove(folders_[0] + "/1.json");
  expect_change("removed file");
  std::filesystem::create_directory(folders_[1]);
  expect_change("new folder");
}

TEST_F(FolderFilesTest, AFreshChangeIsNotSettled) {
  Write("a/1.json", "x");
  EXPECT_FALSE(Look().Settled(absl::Now()));
  EXPECT_TRUE(Look().Settled(absl::Now() + absl::Seconds(2)));
}

}  // namespace
}  // namespace base
