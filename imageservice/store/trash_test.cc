#include "imageservice/store/trash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "base/files.h"
#include "imageservice/testing/scoped_file_system.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr DiskUsage kCounted = {.bytes = 5000, .inodes = 3};

class TrashTest : public ::testing::Test {
 protected:
  TrashTest() { Open(); }
  ~TrashTest() override { Close(); }

  void Open() {
    Close();
    lane_ = std::make_unique<base::Lane>("gc", 1, 2);
    trash_ = Trash::Open(directory_ / "trash", lane_.get()).value();
  }
  void Close() {
    hold_.Set();
    lane_.reset();
    trash_.reset();
    hold_.Clear();
  }
  // Keeps the lane's only thread until Close or Go.
  void Hold() {
    ASSERT_TRUE(lane_->Post([this] { hold_.Wait(base::Context()).IgnoreError(); }).ok());
  }
  void Go() { hold_.Set(); }
  std::string Tree(const std::string& name) {
    EXPECT_TRUE(base::MakeDirectories(directory_ / (name + "/a/b")).ok());
    return directory_ / name;
  }
  std::vector<std::string> Names() const {
    return base::ListDirectory(directory_ / "trash").value();
  }

  testing::TempDirectory directory_;
  Event hold_;
  std::unique_ptr<base::Lane> lane_;
  std::unique_ptr<Trash> trash_;
};

TEST_F(TrashTest, WhatIsBeingUnlinkedCountsUntilItIsGone) {
  Hold();
  const std::string tree = Tree("x");
  const Trash::Removal removal = trash_->Discard(tree, kCounted).value();
  EXPECT_FALSE(base::Exists(tree)) << "it is out of sight at once";
  EXPECT_THAT(Names(), SizeIs(1));
  EXPECT_EQ(trash_->pending(), kCounted);
  Go();
  Trash::Wait(base::Context(), {removal});
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(trash_->pending(), DiskUsage());
}

TEST_F(TrashTest, TheNextLifeKnowsWhatItHasToUnlink) {
  // Something is mounted in the tree: it resists, and goes on counting.
  const std::string tree = Tree("x");
  const Trash::Removal removal = trash_->Discard(tree, kCounted).value();
  Trash::Wait(base::Context(), {removal});
  Close();
  const std::string left = directory_ / ("trash/" + std::string(64, 'a') + ".5000.3");
  ASSERT_TRUE(base::MakeDirectories(left + "/m").ok());
  {
    auto mounted = testing::ScopedFileSystem::Tmpfs(left + "/m", 1 << 20);
    ASSERT_TRUE(mounted.ok()) << mounted.status();
    Open();
    EXPECT_EQ(trash_->pending(), kCounted);
    Close();
    EXPECT_THAT(Names(), SizeIs(1));
  }
  Open();
  Close();
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(TrashTest, NamesOfAnotherFormAreUnlinkedToo) {
  Close();
  for (const char* name : {"x", "x.y.z", "1.2", "a.-5.3", "a.99999999999999999999999.1"}) {
    ASSERT_TRUE(base::MakeDirectories(directory_ / ("trash/" + std::string(name) + "/a")).ok());
  }
  Open();
  EXPECT_EQ(trash_->pending(), DiskUsage());
  Close();
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(TrashTest, NothingIsNoError) {
  EXPECT_EQ(trash_->Discard(directory_ / "none", kCounted).value(), nullptr);
  EXPECT_EQ(trash_->pending(), DiskUsage());
}

TEST_F(TrashTest, AFullLaneLetsTheCallerDoTheWork) {
  Hold();
  while (lane_->load().queued > 0) {  // Until the thread has taken what holds it.
    sched_yield();
  }
  ASSERT_TRUE(lane_->Post([] {}).ok());
  ASSERT_TRUE(lane_->Post([] {}).ok());
  const Trash::Removal removal = trash_->Discard(Tree("x"), kCounted).value();
  EXPECT_TRUE(removal->is_set());
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_EQ(trash_->pending(), DiskUsage());
}

TEST_F(TrashTest, AWaitEndsWithHalfTheDeadline) {
  Hold();
  const Trash::Removal removal = trash_->Discard(Tree("x"), kCounted).value();
  const base::Context ctx = base::Context::Detached(absl::Seconds(2));
  Trash::Wait(ctx, {removal});
  EXPECT_FALSE(removal->is_set());
  EXPECT_GT(ctx.deadline() - base::SteadyTime::Now(), absl::ZeroDuration())
      << "time is left for the answer";
}

}  // namespace
}  // namespace imageservice
