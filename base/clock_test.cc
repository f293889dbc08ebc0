#include "base/clock.h"

#include <time.h>

#include "base/context.h"
#include "base/mutex.h"
#include "gtest/gtest.h"

namespace base {
namespace {

TEST(SteadyTimeTest, ItIsTheKernelsMonotonicClock) {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const SteadyTime before = SteadyTime::Now();
  const auto kernel = std::chrono::steady_clock::time_point(std::chrono::seconds(now.tv_sec) +
                                                            std::chrono::nanoseconds(now.tv_nsec));
  EXPECT_LE(kernel, before.ToChrono());
  EXPECT_LT(before.ToChrono() - kernel, std::chrono::minutes(1));
}

TEST(SteadyTimeTest, InfiniteMomentsStayInfinite) {
  const SteadyTime never = SteadyTime::InfiniteFuture();
  EXPECT_EQ(never + absl::Hours(1), never);
  EXPECT_EQ(never - SteadyTime::Now(), absl::InfiniteDuration());
  EXPECT_LT(SteadyTime::InfinitePast(), SteadyTime::Now());
  EXPECT_LT(SteadyTime::Now() + absl::Hours(1000), never);
  EXPECT_EQ(Context(never, nullptr).PollTimeout(), -1);
}

TEST(SteadyTimeTest, AWaitEndsAtItsMoment) {
  Mutex mutex;
  CondVar condition;
  const SteadyTime until = SteadyTime::Now() + absl::Milliseconds(20);
  MutexLock lock(&mutex);
  while (condition.WaitUntil(&mutex, until)) {
  }
  EXPECT_GE(SteadyTime::Now(), until);
}

}  // namespace
}  // namespace base
