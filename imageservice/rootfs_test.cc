#include "imageservice/rootfs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/mounts.h"
#include "base/strings.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RootfsTest : public ::testing::Test {
 protected:
  RootfsTest() : container_(base::ContainerId::Random()) { Start(); }
  ~RootfsTest() override {
    if (rootfs_ != nullptr) {
      rootfs_->Remove(base::Context(), container_).IgnoreError();
    }
  }

  void Start() { rootfs_ = Rootfs::Open(directory_ / "root", directory_ / "run").value(); }

  void File(const std::string& layer, const std::string& name, const std::string& text) {
    const std::string path = directory_ / ("root/layers/" + layer);
    ASSERT_TRUE(base::MakeDirectories(path).ok());
    ASSERT_TRUE(base::ReplaceFile(path + "/" + name, text, 0644, base::Durability::kVolatile).ok());
  }
  std::string Prepare(const std::vector<std::string>& layers) {
    const absl::StatusOr<std::string> target =
        rootfs_->Prepare(base::Context(), container_, layers);
    EXPECT_TRUE(target.ok()) << target.status();
    return target.ok() ? *target : "";
  }
  std::vector<std::string> Names(const std::string& folder) const {
    return base::ListDirectory(directory_ / folder).value();
  }

  testing::TempDirectory directory_;
  base::ContainerId container_;
  std::unique_ptr<Rootfs> rootfs_;
};

TEST_F(RootfsTest, UpperLayersCoverLowerOnesAndWritesGoToTheContainer) {
  File("low", "a", "low");
  File("low", "b", "low");
  File("high", "b", "high");
  const std::string target = Prepare({"low", "high"});
  EXPECT_EQ(target, directory_ / ("run/containers/" + container_.str() + "/rootfs"));
  EXPECT_EQ(base::ReadFile(target + "/a").value(), "low");
  EXPECT_EQ(base::ReadFile(target + "/b").value(), "high");
  ASSERT_TRUE(base::ReplaceFile(target + "/b", "mine", 0644, base::Durability::kVolatile).ok());
  EXPECT_EQ(base::ReadFile(directory_ / "root/layers/high/b").value(), "high");
  EXPECT_EQ(
      base::ReadFile(directory_ / ("root/containers/" + container_.str() + "/upper/b")).value(),
      "mine");
}

TEST_F(RootfsTest, WhatAContainerWritesIsItsUsage) {
  File("low", "a", std::string(500000, 'x'));
  const std::string target = Prepare({"low"});
  ASSERT_TRUE(
      base::ReplaceFile(target + "/b", std::string(300000, 'x'), 0644, base::Durability::kDurable)
          .ok());
  std::optional<WritableUsage::Sample> sample;
  for (const absl::Time end = absl::Now() + absl::Seconds(20); !sample && absl::Now() < end;) {
    sample = rootfs_->Usage(container_);
    poll(nullptr, 0, 2);
  }
  ASSERT_TRUE(sample.has_value());
  EXPECT_GE(sample->used.bytes, 300000u);
  EXPECT_LT(sample->used.bytes, 500000u) << "the image's files are not the container's";
  EXPECT_EQ(rootfs_->TotalUsage().used, sample->used);
  ASSERT_TRUE(rootfs_->Remove(base::Context(), container_).ok());
  EXPECT_EQ(rootfs_->TotalUsage().used, DiskUsage());
  EXPECT_FALSE(rootfs_->Usage(container_).has_value());
}

TEST_F(RootfsTest, TheRootFolderLooksAsTheTopLayerHasIt) {
  File("low", "a", "low");
  const std::string layer = directory_ / "root/layers/low";
  ASSERT_EQ(chmod(layer.c_str(), 0751), 0);
  ASSERT_EQ(chown(layer.c_str(), 5, 6), 0);
  struct stat info = {};
  ASSERT_EQ(stat(Prepare({"low"}).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0751u);
  EXPECT_EQ(info.st_uid, 5u);
  EXPECT_EQ(info.st_gid, 6u);
}

TEST_F(RootfsTest, AVolumeShowsTheLayersAndCannotBeWrittenTo) {
  File("low", "a", "low");
  File("low", "b", "low");
  File("high", "b", "high");
  ASSERT_EQ(mknod((directory_ / "root/layers/high/a").c_str(), S_IFCHR, 0), 0);  // A whiteout.
  for (const std::vector<std::string>& layers :
       {std::vector<std::string>{"low", "high"}, std::vector<std::string>{"high"}}) {
    const absl::StatusOr<std::string> volume =
        rootfs_->MountVolume(base::Context(), container_, 3, layers);
    ASSERT_TRUE(volume.ok()) << volume.status();
    EXPECT_EQ(*volume, directory_ / ("run/containers/" + container_.str() + "/volumes/3"));
    EXPECT_THAT(base::ListDirectory(*volume).value(), ElementsAre("b"));
    EXPECT_EQ(base::ReadFile(*volume + "/b").value(), "high");
    EXPECT_FALSE(base::WriteControlFile(*volume + "/b", "other").ok());
    EXPECT_FALSE(base::MakeDirectories(*volume + "/new").ok());
    struct statvfs flags = {};
    ASSERT_EQ(statvfs(volume->c_str(), &flags), 0);
    EXPECT_EQ(flags.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC),
              static_cast<unsigned long>(ST_RDONLY | ST_NOSUID | ST_NODEV));
  }
}

TEST_F(RootfsTest, AnImageWithoutLayersIsAnEmptyVolume) {
  const absl::StatusOr<std::string> volume =
      rootfs_->MountVolume(base::Context(), container_, 0, {});
  ASSERT_TRUE(volume.ok()) << volume.status();
  EXPECT_THAT(base::ListDirectory(*volume).value(), IsEmpty());
}

TEST_F(RootfsTest, RemoveUnmountsVolumesThatALaterLifeKnowsNothingOf) {
  File("low", "a", "low");
  const std::string bundle = directory_ / ("run/containers/" + container_.str());
  for (int number = 0; number < 2; ++number) {
    ASSERT_TRUE(rootfs_->MountVolume(base::Context(), container_, number, {"low"}).ok());
  }
  ASSERT_TRUE(rootfs_->MountVolume(base::Context(), container_, 0, {"low"}).ok());
  Start();
  ASSERT_TRUE(rootfs_->Remove(base::Context(), container_).ok());
  EXPECT_THAT(base::ListDirectory(bundle).value(), IsEmpty());
  EXPECT_EQ(base::ReadFile(directory_ / "root/layers/low/a").value(), "low");
}

TEST_F(RootfsTest, PreparingAgainStartsAfresh) {
  File("low", "a", "low");
  const std::string target = Prepare({"low"});
  ASSERT_TRUE(base::ReplaceFile(target + "/x", "x", 0644, base::Durability::kVolatile).ok());
  EXPECT_EQ(Prepare({"low"}), target);
  EXPECT_FALSE(base::Exists(target + "/x"));
  EXPECT_TRUE(*base::IsMountPoint(target));
}

TEST_F(RootfsTest, RemoveLeavesNothingAndCanBeRepeated) {
  File("low", "a", "low");
  const std::string target = Prepare({"low"});
  EXPECT_THAT(*rootfs_->List(), ElementsAre(container_));
  ASSERT_TRUE(rootfs_->Remove(base::Context(), container_).ok());
  EXPECT_FALSE(base::Exists(target));
  EXPECT_THAT(Names("root/containers"), IsEmpty());
  EXPECT_THAT(Names("root/trash-containers"), IsEmpty());
  EXPECT_THAT(*rootfs_->List(), IsEmpty());
  EXPECT_TRUE(rootfs_->Remove(base::Context(), container_).ok());
}

TEST_F(RootfsTest, AnotherLifeCanRemoveIt) {
  File("low", "a", "low");
  const std::string target = Prepare({"low"});
  Start();
  EXPECT_THAT(*rootfs_->List(), ElementsAre(container_));
  ASSERT_TRUE(rootfs_->Remove(base::Context(), container_).ok());
  EXPECT_FALSE(base::Exists(target));
}

TEST_F(RootfsTest, MoreThanAHundredLayersCanBeStacked) {
  std::vector<std::string> layers;
  for (int i = 0; i < 150; ++i) {
    // As long as chain IDs are.
    layers.push_back(std::string(60, '0') + base::StrCat(1000 + i));
    File(layers.back(), base::StrCat("file-", i), base::StrCat(i));
    File(layers.back(), "same", base::StrCat(i));
  }
  const std::string target = Prepare(layers);
  EXPECT_EQ(base::ReadFile(target + "/same").value(), "149");
  EXPECT_EQ(base::ReadFile(target + "/file-0").value(), "0");
}

TEST_F(RootfsTest, AnImageWithoutLayersIsAnEmptyRoot) {
  const std::string target = Prepare({});
  EXPECT_THAT(base::ListDirectory(target).value(), IsEmpty());
  ASSERT_TRUE(base::ReplaceFile(target + "/x", "x", 0644, base::Durability::kVolatile).ok());
}

TEST_F(RootfsTest, WhiteoutsAndOpaqueFoldersOfLayersHide) {
  File("low", "gone", "low");
  ASSERT_TRUE(base::MakeDirectories(directory_ / "root/layers/low/dir/old").ok());
  File("high", "b", "high");
  ASSERT_EQ(mknod((directory_ / "root/layers/high/gone").c_str(), S_IFCHR, 0), 0);
  ASSERT_TRUE(base::MakeDirectories(directory_ / "root/layers/high/dir/new").ok());
  ASSERT_EQ(
      setxattr((directory_ / "root/layers/high/dir").c_str(), "trusted.overlay.opaque", "y", 1, 0),
      0);
  const std::string target = Prepare({"low", "high"});
  EXPECT_FALSE(base::Exists(target + "/gone"));
  EXPECT_THAT(base::ListDirectory(target + "/dir").value(), ElementsAre("new"));
}

TEST_F(RootfsTest, AMissingLayerIsAnErrorThatNamesIt) {
  const absl::Status status = rootfs_->Prepare(base::Context(), container_, {"absent"}).status();
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("layers/absent"));
}

}  // namespace
}  // namespace imageservice
