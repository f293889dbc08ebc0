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

}  // namespace
}  // namespace base
