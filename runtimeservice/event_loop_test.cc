#include "runtimeservice/event_loop.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <latch>
#include <vector>

#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

TEST(EventLoopTest, TimersRunInTheirOrder) {
  auto loop = EventLoop::Start();
  ASSERT_TRUE(loop.ok());
  std::latch done(3);
  std::vector<int> order;
  const base::SteadyTime now = base::SteadyTime::Now();
  (*loop)->At(now + absl::Milliseconds(30), [&] { order.push_back(3), done.count_down(); });
  (*loop)->At(now + absl::Milliseconds(10), [&] { order.push_back(2), done.count_down(); });
  (*loop)->Post([&] { order.push_back(1), done.count_down(); });
  done.wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(EventLoopTest, AHangupIsToldOnceWhateverWasSentBefore) {
  auto loop = EventLoop::Start();
  ASSERT_TRUE(loop.ok());
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const base::UniqueFd ours(ends[0]);
  base::UniqueFd theirs(ends[1]);
  std::latch done(1);
  ASSERT_TRUE((*loop)->OnHangup(ours.get(), [&] { done.count_down(); }).ok());
  ASSERT_EQ(write(theirs.get(), "last words", 10), 10);
  EXPECT_FALSE(done.try_wait());
  theirs.Reset();
  done.wait();
}

TEST(EventLoopTest, WhatIsForgottenIsNotToldThoughAnotherHoldsItOpen) {
  auto loop = EventLoop::Start();
  ASSERT_TRUE(loop.ok());
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const base::UniqueFd write_end(ends[1]);
  base::UniqueFd ours(ends[0]);
  const base::UniqueFd other(dup(ours.get()));
  bool told = false;
  std::latch done(1);
  const auto forgotten = (*loop)->OnReadable(ours.get(), [&] { told = true; });
  ASSERT_TRUE(forgotten.ok()) << forgotten.status();
  ASSERT_TRUE((*loop)->OnReadable(other.get(), [&] { done.count_down(); }).ok());
  (*loop)->Forget(*forgotten);
  (*loop)->Forget(*forgotten);
  ours.Reset();
  ASSERT_EQ(write(write_end.get(), "x", 1), 1);
  done.wait();
  std::latch round(1);
  (*loop)->Post([&] { round.count_down(); });
  round.wait();
  EXPECT_FALSE(told);
}

TEST(EventLoopTest, OnlyALoopThatDoesNotComeRoundLags) {
  auto loop = EventLoop::Start();
  ASSERT_TRUE(loop.ok());
  std::latch blocked(1);
  std::latch release(1);
  EXPECT_EQ((*loop)->Lag(), absl::ZeroDuration());
  (*loop)->Post([&] { blocked.count_down(), release.wait(); });
  blocked.wait();
  EXPECT_EQ((*loop)->Lag(), absl::ZeroDuration());
  absl::Duration lag;
  while ((lag = (*loop)->Lag()) < absl::Milliseconds(5)) {
  }
  release.count_down();
  std::latch round(1);
  (*loop)->Post([&] { round.count_down(); });
  round.wait();
  EXPECT_LT((*loop)->Lag(), lag);
}

TEST(EventLoopTest, StoppingDropsWhatIsNotDue) {
  bool ran = false;
  {
    auto loop = EventLoop::Start();
    ASSERT_TRUE(loop.ok());
    (*loop)->At(base::SteadyTime::Now() + absl::Hours(1), [&] { ran = true; });
  }
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace runtimeservice
