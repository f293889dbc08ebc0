#include "imageservice/store/layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Claim = LayerStore::Claim;

std::string Chain(char c) { return std::string(64, c); }

// Lets whoever polls the result hold each newfstatat(2) of the calling thread, for the rest of its
// life. Invalid where that is not allowed.
base::UniqueFd HoldStatCalls() {
  sock_filter code[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, __NR_newfstatat},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_USER_NOTIF},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog program = {.len = 4, .filter = code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return {};
  }
  return base::UniqueFd(static_cast<int>(
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program)));
}

// The next call that is held: true with `*id`; false once the thread has ended.
bool NextHeld(int listener, uint64_t* id) {
  pollfd wait = {.fd = listener, .events = POLLIN, .revents = 0};
  seccomp_notif held = {};
  if (poll(&wait, 1, -1) != 1 || (wait.revents & POLLIN) == 0 ||
      ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &held) != 0) {
    return false;
  }
  *id = held.id;
  return true;
}

void LetGo(int listener, uint64_t id) {
  seccomp_notif_resp answer = {};
  answer.id = id;
  answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  EXPECT_EQ(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
}

class LayerStoreTest : public ::testing::Test {
 protected:
  LayerStoreTest() { Start("boot-1"); }
  ~LayerStoreTest() override { Stop(); }

  void Stop() {
    lane_.reset();
    store_.reset();
    trash_.reset();
  }
  void Start(const std::string& boot_id) {
    Stop();
    problems_ = std::make_unique<Problems>();
    lane_ = std::make_unique<base::Lane>("gc", 2, 100);
    trash_ = Trash::Open(directory_ / "trash", lane_.get()).value();
    auto store = LayerStore::Open(directory_.path(), boot_id, trash_.get(), problems_.get());
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  std::string Tree(const std::string& name) {
    const std::string path = directory_ / name;
    EXPECT_TRUE(base::MakeDirectories(path + "/etc").ok());
    return path;
  }
  LayerInfo Info(char c) const {
    return {.chain_id = Chain(c), .parent = "", .diff_id = Chain(c), .bytes = 100, .inodes = 3};
  }
  void Add(char c, const std::string& pull = "pull/p") {
    ASSERT_EQ(store_->ClaimFor(pull, Chain(c)), Claim::kMine);
    const absl::Status status = store_->Commit(pull, Info(c), Tree("made"));
    ASSERT_TRUE(status.ok()) << status;
  }
  std::vector<std::string> Names(const std::string& folder) const {
    return base::ListDirectory(directory_ / folder).value();
  }

  testing::TempDirectory directory_;
  std::unique_ptr<base::Lane> lane_;
  std::unique_ptr<Trash> trash_;
  std::unique_ptr<Problems> problems_;
  std::unique_ptr<LayerStore> store_;
};

TEST_F(LayerStoreTest, ACommittedLayerIsThereAfterARestart) {
  Add('a');
  EXPECT_TRUE(base::Exists(store_->PathOf(Chain('a')) + "/etc"));
  Start("boot-1");
  EXPECT_TRUE(store_->IsPresent(Chain('a')));
  EXPECT_EQ(store_->usage().bytes, 100u);
  EXPECT_EQ(store_->usage().inodes, 3u);
  EXPECT_THAT(problems_->List(), IsEmpty());
}

TEST_F(LayerStoreTest, UnfinishedLayerIsInvisibleAfterRestart) {
  // A crash between the rename into place and the record.
  ASSERT_TRUE(base::MakeDirectories(directory_ / ("layers/" + Chain('b') + "/etc")).ok());
  Start("boot-1");
  EXPECT_FALSE(store_->IsPresent(Chain('b')));
  Stop();
  EXPECT_THAT(Names("layers"), IsEmpty());
  EXPECT_THAT(Names("trash"), IsEmpty());
}

TEST_F(LayerStoreTest, ARecordWithoutItsDirectoryIsDropped) {
  Add('a');
  ASSERT_TRUE(base::RemoveTree(store_->PathOf(Chain('a'))).ok());
  Start("boot-1");
  EXPECT_FALSE(store_->IsPresent(Chain('a')));
  EXPECT_THAT(problems_->List(), SizeIs(1));
  Start("boot-1");
  EXPECT_THAT(problems_->List(), IsEmpty());
}

TEST_F(LayerStoreTest, AnEmptiedLayerIsDroppedAtTheStart) {
  Add('a');
  Add('b');
  ASSERT_TRUE(base::RemoveTree(store_->PathOf(Chain('a')) + "/etc").ok());
  Start("boot-1");
  EXPECT_FALSE(store_->IsPresent(Chain('a')));
  EXPECT_TRUE(store_->IsPresent(Chain('b')));
  EXPECT_THAT(problems_->List(),
              ElementsAre("layer " + Chain('a') + ": its directory is missing or was emptied"));
  Stop();
  EXPECT_THAT(Names("layers"), ElementsAre(Chain('b')));
}

TEST_F(LayerStoreTest, ALayerWithoutFilesIsNotDamaged) {
  ASSERT_EQ(store_->ClaimFor("pull/p", Chain('a')), Claim::kMine);
  ASSERT_TRUE(base::MakeDirectories(directory_ / "made").ok());
  LayerInfo info = Info('a');
  info.inodes = 1;
  ASSERT_TRUE(store_->Commit("pull/p", info, directory_ / "made").ok());
  EXPECT_THAT(store_->DropDamaged({Chain('a')}), IsEmpty());
  Start("boot-1");
  EXPECT_TRUE(store_->IsPresent(Chain('a')));
}

TEST_F(LayerStoreTest, ADamagedLayerIsDroppedKeepsItsPinsAndComesBack) {
  Add('a');
  Add('b');
  store_->Pin("image/1", {Chain('a'), Chain('b')});
  store_->Release("pull/p");
  EXPECT_THAT(store_->DropDamaged({Chain('a'), Chain('b'), Chain('c')}), IsEmpty());
  ASSERT_TRUE(base::RemoveTree(store_->PathOf(Chain('a'))).ok());
  EXPECT_THAT(store_->DropDamaged({Chain('a'), Chain('b')}), ElementsAre(Chain('a')));
  EXPECT_FALSE(store_->IsPresent(Chain('a')));
  EXPECT_THAT(Names("records/layers"), ElementsAre(Chain('b')));
  EXPECT_THAT(problems_->List(), SizeIs(1));
  EXPECT_EQ(store_->usage().bytes, 100u);
  Add('a', "pull/2");
  store_->Release("pull/2");
  EXPECT_TRUE(store_->IsPresent(Chain('a'))) << "the image's pin is still there";
  EXPECT_THAT(problems_->List(), IsEmpty());
}

TEST_F(LayerStoreTest, OthersGoOnWhileADamagedLayerIsLookedAt) {
  Add('a');
  ASSERT_TRUE(base::RemoveTree(store_->PathOf(Chain('a'))).ok());
  std::promise<base::UniqueFd> made;
  std::vector<std::string> dropped;
  std::thread looking([&] {
    base::UniqueFd listener = HoldStatCalls();
    const bool holds = listener.valid();
    made.set_value(std::move(listener));
    if (holds) {
      dropped = store_->DropDamaged({Chain('a')});
    }
  });
  const base::UniqueFd listener = made.get_future().get();
  int seen = 0;
  for (uint64_t id = 0; listener.valid() && NextHeld(listener.get(), &id); ++seen) {
    std::future<DiskUsage> usage =
        std::async(std::launch::async, [this] { return store_->usage(); });
    EXPECT_EQ(usage.wait_for(std::chrono::seconds(10)), std::future_status::ready)
        << "the store is locked during a system call";
    LetGo(listener.get(), id);
  }
  looking.join();
  if (!listener.valid()) {
    GTEST_SKIP() << "SKIP: seccomp's notifications";
  }
  EXPECT_GE(seen, 1);
  EXPECT_THAT(dropped, ElementsAre(Chain('a')));
}

TEST_F(LayerStoreTest, APullNoticesThatALayerIsDamaged) {
  Add('a');
  ASSERT_TRUE(base::RemoveTree(store_->PathOf(Chain('a')) + "/etc").ok());
  EXPECT_EQ(store_->ClaimFor("pull/2", Chain('a')), Claim::kMine);
  ASSERT_TRUE(store_->Commit("pull/2", Info('a'), Tree("made")).ok());
  EXPECT_TRUE(base::Exists(store_->PathOf(Chain('a')) + "/etc"));
}

TEST_F(LayerStoreTest, WhatIsBeingUnlinkedCountsAsUsed) {
  Add('a');
  Add('b');
  store_->Pin("image/b", {Chain('b')});
  const auto hold = std::make_shared<Event>();
  for (int i = 0; i < 2; ++i) {  // Both threads of the lane.
    ASSERT_TRUE(lane_->Post([hold] { hold->Wait(base::Context()).IgnoreError(); }).ok());
  }
  const std::vector<Trash::Removal> removals = store_->Release("pull/p");
  EXPECT_FALSE(store_->IsPresent(Chain('a')));
  EXPECT_EQ(store_->usage(), (DiskUsage{.bytes = 200, .inodes = 6}));
  hold->Set();
  Trash::Wait(base::Context(), removals);
  EXPECT_EQ(store_->usage(), (DiskUsage{.bytes = 100, .inodes = 3}));
}

TEST_F(LayerStoreTest, AnotherBootDropsWhatWasNotDurable) {
  Add('a');
  Add('b');
  ASSERT_TRUE(store_->MarkDurable({Chain('a')}).ok());
  EXPECT_TRUE(store_->IsDurable(Chain('a')));
  EXPECT_THAT(store_->NotDurable(), ElementsAre(Chain('b')));
  Start("boot-2");
  EXPECT_TRUE(store_->IsPresent(Chain('a')));
  EXPECT_FALSE(store_->IsPresent(Chain('b')));
  Stop();
  EXPECT_THAT(Names("layers"), ElementsAre(Chain('a')));
}

TEST_F(LayerStoreTest, TheSameBootKeepsWhatIsNotDurable) {
  Add('a');
  Start("boot-1");
  EXPECT_THAT(store_->NotDurable(), ElementsAre(Chain('a')));
}

TEST_F(LayerStoreTest, ARecordCutAnywhereIsSetAsideAndTheOthersStay) {
  Add('a');
  Add('b');
  const std::string path = directory_ / ("records/layers/" + Chain('a'));
  const std::string whole = base::ReadFile(path).value();
  for (size_t size = 0; size < whole.size(); ++size) {
    Stop();
    ASSERT_TRUE(base::MakeDirectories(directory_ / ("layers/" + Chain('a'))).ok());
    ASSERT_TRUE(
        base::ReplaceFile(path, whole.substr(0, size), 0600, base::Durability::kVolatile).ok());
    Start("boot-1");
    EXPECT_FALSE(store_->IsPresent(Chain('a'))) << size;
    EXPECT_TRUE(store_->IsPresent(Chain('b'))) << size;
    EXPECT_THAT(problems_->List(), SizeIs(1)) << size;
    EXPECT_TRUE(base::Exists(directory_ / ("records/layers/corrupt/" + Chain('a')))) << size;
  }
}

TEST_F(LayerStoreTest, ALayerGoesWithItsLastPin) {
  Add('a');
  store_->Pin("image/1", {Chain('a')});
  EXPECT_TRUE(store_->PinPresent("container/1", {Chain('a')}));
  store_->Release("pull/p");
  store_->Release("image/1");
  EXPECT_TRUE(store_->IsPresent(Chain('a')));
  Trash::Wait(base::Context(), store_->Release("container/1"));
  EXPECT_FALSE(store_->IsPresent(Chain('a')));
  EXPECT_THAT(Names("layers"), IsEmpty());
  EXPECT_THAT(Names("trash"), IsEmpty());
  EXPECT_THAT(Names("records/layers"), IsEmpty());
}

TEST_F(LayerStoreTest, PinningAgainReplacesThePins) {
  Add('a');
  Add('b');
  store_->Pin("x", {Chain('a'), Chain('b')});
  store_->Release("pull/p");
  store_->Pin("x", {Chain('b')});
  EXPECT_FALSE(store_->IsPresent(Chain('a')));
  EXPECT_TRUE(store_->IsPresent(Chain('b')));
  store_->Pin("x", {Chain('b')});
  EXPECT_TRUE(store_->IsPresent(Chain('b')));
}

TEST_F(LayerStoreTest, AbsentLayersCannotBePinnedAsPresent) {
  Add('a');
  EXPECT_FALSE(store_->PinPresent("x", {Chain('a'), Chain('b')}));
  store_->Release("pull/p");
  EXPECT_FALSE(store_->IsPresent(Chain('a'))) << "the refused pin must not count";
}

TEST_F(LayerStoreTest, LoadedLayersStayUntilUnusedOnesAreReleased) {
  Add('a');
  Add('b');
  Start("boot-1");
  store_->Pin("container/1", {Chain('a')});
  EXPECT_TRUE(store_->IsPresent(Chain('b')));
  store_->ReleaseUnused();
  EXPECT_TRUE(store_->IsPresent(Chain('a')));
  EXPECT_FALSE(store_->IsPresent(Chain('b')));
}

TEST_F(LayerStoreTest, OnePullFetchesAndTheOthersHearOfIt) {
  Event wake;
  store_->AddListener(&wake);
  EXPECT_EQ(store_->ClaimFor("pull/1", Chain('a')), Claim::kMine);
  EXPECT_EQ(store_->ClaimFor("pull/1", Chain('a')), Claim::kMine);
  EXPECT_EQ(store_->ClaimFor("pull/2", Chain('a')), Claim::kOther);
  EXPECT_FALSE(wake.is_set());
  ASSERT_TRUE(store_->Commit("pull/1", Info('a'), Tree("made")).ok());
  EXPECT_TRUE(wake.is_set());
  store_->Release("pull/1");
  EXPECT_EQ(store_->ClaimFor("pull/2", Chain('a')), Claim::kPresent) << "its claim was a pin";
  store_->RemoveListener(&wake);
}

TEST_F(LayerStoreTest, AReleasedClaimGoesToTheNext) {
  Event wake;
  store_->AddListener(&wake);
  EXPECT_EQ(store_->ClaimFor("pull/1", Chain('a')), Claim::kMine);
  EXPECT_EQ(store_->ClaimFor("pull/2", Chain('a')), Claim::kOther);
  EXPECT_EQ(store_->ClaimFor("pull/3", Chain('a')), Claim::kOther);
  store_->Release("pull/1");
  EXPECT_TRUE(wake.is_set());
  EXPECT_EQ(store_->ClaimFor("pull/3", Chain('a')), Claim::kMine);
  EXPECT_EQ(store_->ClaimFor("pull/2", Chain('a')), Claim::kOther);
  store_->RemoveListener(&wake);
}

TEST_F(LayerStoreTest, OnlyTheClaimantCommits) {
  EXPECT_FALSE(store_->Commit("pull/1", Info('a'), Tree("made")).ok());
  EXPECT_EQ(store_->ClaimFor("pull/1", Chain('a')), Claim::kMine);
  EXPECT_FALSE(store_->Commit("pull/2", Info('a'), Tree("made")).ok());
}

TEST_F(LayerStoreTest, ALeftoverDirectoryGivesWay) {
  ASSERT_TRUE(base::MakeDirectories(store_->PathOf(Chain('a')) + "/old").ok());
  Add('a');
  EXPECT_FALSE(base::Exists(store_->PathOf(Chain('a')) + "/old"));
  EXPECT_TRUE(base::Exists(store_->PathOf(Chain('a')) + "/etc"));
}

TEST_F(LayerStoreTest, ClaimsPinsAndDeletionsByManyThreadsNeverLoseALayerInUse) {
  std::atomic<int> committed = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const std::string pull = base::StrCat("pull/", i);
      for (int round = 0; round < 40; ++round) {
        const Claim claim = store_->ClaimFor(pull, Chain('a'));
        if (claim == Claim::kMine) {
          const std::string made = Tree(base::StrCat("made-", i));
          EXPECT_TRUE(store_->Commit(pull, Info('a'), made).ok());
          ++committed;
        }
        if (claim != Claim::kOther) {
          EXPECT_TRUE(store_->IsPresent(Chain('a')));
          EXPECT_TRUE(base::Exists(store_->PathOf(Chain('a')) + "/etc"));
          EXPECT_TRUE(store_->MarkDurable({Chain('a')}).ok());
        }
        store_->Release(pull);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_GT(committed, 0);
  EXPECT_FALSE(store_->IsPresent(Chain('a')));
  EXPECT_THAT(Names("records/layers"), IsEmpty());
}

}  // namespace
}  // namespace imageservice
