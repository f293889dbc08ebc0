#include "base/lane.h"

#include <latch>
#include <set>
#include <thread>

#include "gtest/gtest.h"

namespace base {
namespace {

TEST(LaneTest, RunsEverythingPosted) {
  std::atomic<int> ran = 0;
  {
    Lane lane("test", 4, 1000);
    for (int i = 0; i < 500; ++i) {
      ASSERT_TRUE(lane.Post([&] { ++ran; }).ok());
    }
  }
  EXPECT_EQ(ran, 500);
}

TEST(LaneTest, BlockedTasksGetThreadsOfTheirOwn) {
  std::latch all_running(8);
  Lane lane("test", 8, 100);
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(lane.Post([&] { all_running.arrive_and_wait(); }).ok());
  }
  all_running.wait();  // Hangs if any of the eight waits for another's thread.
}

TEST(LaneTest, FullQueueIsAnErrorWithAName) {
  std::latch running(1);
  std::latch release(1);
  Lane lane("narrow", 1, 2);
  ASSERT_TRUE(lane.Post([&] {
                    running.count_down();
                    release.wait();
                  })
                  .ok());
  running.wait();
  EXPECT_TRUE(lane.Post([] {}).ok());
  EXPECT_TRUE(lane.Post([] {}).ok());
  const absl::Status full = lane.Post([] {});
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_NE(std::string(full.message()).find("narrow"), std::string::npos);
  EXPECT_EQ(lane.load().rejected, 1u);
  release.count_down();
}

TEST(LaneTest, ThreadsStayWithinTheBound) {
  Mutex mutex;
  std::set<std::thread::id> threads;
  {
    Lane lane("test", 3, 1000);
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(lane.Post([&] {
                        MutexLock lock(&mutex);
                        threads.insert(std::this_thread::get_id());
                      })
                      .ok());
    }
  }
  EXPECT_LE(threads.size(), 3u);
}

TEST(LaneTest, StoppedLaneHasRunWhatWaitedAndTakesNothingMore) {
  std::atomic<int> ran = 0;
  std::latch running(1);
  std::latch release(1);
  absl::Status from_task;
  Lane lane("ending", 1, 10);
  const auto posts_another = [&] {
    running.count_down();
    release.wait();
    ++ran;
    from_task = lane.Post([&] { ++ran; });
  };
  ASSERT_TRUE(lane.Post(posts_another).ok());
  ASSERT_TRUE(lane.Post([&] { ++ran; }).ok());
  running.wait();
  std::thread stopper([&] { lane.Stop(); });
  while (!absl::IsCancelled(lane.Post([&] { ++ran; }))) {
    std::this_thread::yield();
  }
  const int taken = static_cast<int>(lane.load().queued) + 1;
  release.count_down();
  stopper.join();
  EXPECT_EQ(ran, taken);
  EXPECT_TRUE(absl::IsCancelled(from_task)) << from_task;
  lane.Stop();  // Again: nothing is left to do.
  EXPECT_TRUE(absl::IsCancelled(lane.Post([&] { ++ran; })));
  EXPECT_EQ(ran, taken);
}

}  // namespace
}  // namespace base
