#include "daemon/archive_paths.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "base/files.h"

namespace crispd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = ArchiveOutputPath::Kind;
using Existing = ArchiveOutputPath::Existing;

class ArchivePathsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/tmp/crisp-archive-XXXXXX";
    directory_ = mkdtemp(path);
  }
  void TearDown() override { base::RemoveTree(directory_).IgnoreError(); }

  void Write(const std::string& path, const std::string& text) {
    ASSERT_TRUE(base::ReplaceFile(path, text, 0644, base::Durability::kVolatile).ok());
  }
  std::vector<std::string> Names() const { return base::ListDirectory(directory_).value(); }

  std::string directory_;
};

TEST_F(ArchivePathsTest, OutputAppearsWhenItIsCompleteAndElseLeavesNothing) {
  const std::string file = directory_ + "/out.tar";
  {
    const auto output = ArchiveOutputPath::Create(file, Kind::kFile, Existing::kRefuse);
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_FALSE(base::Exists(file));
    EXPECT_TRUE(base::Exists((*output)->path()));
  }
  EXPECT_THAT(Names(), IsEmpty());
  const auto output = ArchiveOutputPath::Create(file, Kind::kFile, Existing::kRefuse);
  ASSERT_TRUE(output.ok());
  Write((*output)->path(), "archive");
  ASSERT_TRUE((*output)->Publish().ok());
  EXPECT_THAT(Names(), ElementsAre("out.tar"));
}

TEST_F(ArchivePathsTest, WhatExistsIsNotOverwrittenWithoutForce) {
  const std::string file = directory_ + "/out.tar";
  Write(file, "precious");
  const auto refused = ArchiveOutputPath::Create(file, Kind::kFile, Existing::kRefuse);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--force"));
  const auto forced = ArchiveOutputPath::Create(file, Kind::kFile, Existing::kReplace);
  ASSERT_TRUE(forced.ok());
  EXPECT_EQ(base::ReadFile(file).value(), "precious");
  ASSERT_TRUE((*forced)->Publish().ok());
  EXPECT_EQ(base::ReadFile(file).value(), "");
}

TEST_F(ArchivePathsTest, WhatAppearsMeanwhileIsNotOverwrittenEither) {
  const std::string file = directory_ + "/out.tar";
  const auto output = ArchiveOutputPath::Create(file, Kind::kFile, Existing::kRefuse);
  ASSERT_TRUE(output.ok());
  Write(file, "precious");
  EXPECT_TRUE(absl::IsAlreadyExists((*output)->Publish()));
  EXPECT_EQ(base::ReadFile(file).value(), "precious");
}

TEST_F(ArchivePathsTest, ADirectoryIsNeverReplaced) {
  ASSERT_EQ(mkdir((directory_ + "/layout").c_str(), 0755), 0);
  for (const Kind kind : {Kind::kFile, Kind::kDirectory}) {
    EXPECT_FALSE(ArchiveOutputPath::Create(directory_ + "/layout/", kind, Existing::kReplace).ok());
  }
  const auto fresh =
      ArchiveOutputPath::Create(directory_ + "/fresh/", Kind::kDirectory, Existing::kRefuse);
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  ASSERT_TRUE((*fresh)->Publish().ok());
  EXPECT_THAT(Names(), ElementsAre("fresh", "layout"));
}

TEST_F(ArchivePathsTest, InputIsAnAbsolutePathOfSomethingThatIsThere) {
  Write(directory_ + "/in.tar", "x");
  ASSERT_EQ(chdir(directory_.c_str()), 0);
  const auto input = ArchiveInput::Open("./in.tar");
  ASSERT_TRUE(input.ok());
  EXPECT_EQ(input->path(), directory_ + "/in.tar");
  EXPECT_TRUE(absl::IsNotFound(ArchiveInput::Open("other.tar").status()));
}

}  // namespace
}  // namespace crispd
