#include "runtimeservice/state/leases.h"

#include <atomic>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

using Mode = Leases::Mode;

base::Context Soon() {
  return base::Context(base::SteadyTime::Now() + absl::Milliseconds(30), nullptr);
}

TEST(LeasesTest, SharedTogetherExclusiveAlone) {
  Leases leases;
  {
    auto one = leases.Acquire(base::Context(), "pod", Mode::kShared);
    auto two = leases.Acquire(base::Context(), "pod", Mode::kShared);
    EXPECT_TRUE(one.ok() && two.ok());
    EXPECT_TRUE(absl::IsDeadlineExceeded(leases.Acquire(Soon(), "pod", Mode::kExclusive).status()));
    EXPECT_TRUE(leases.Acquire(Soon(), "other", Mode::kExclusive).ok());
  }
  auto exclusive = leases.Acquire(Soon(), "pod", Mode::kExclusive);
  EXPECT_TRUE(exclusive.ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(leases.Acquire(Soon(), "pod", Mode::kShared).status()));
}

TEST(LeasesTest, AnExclusiveWaiterIsNotOvertaken) {
  Leases leases;
  auto held = std::make_unique<absl::StatusOr<Leases::Lease>>(
      leases.Acquire(base::Context(), "pod", Mode::kShared));
  std::atomic<bool> stopped = false;
  std::thread stop([&] {
    const auto lease = leases.Acquire(base::Context(), "pod", Mode::kExclusive);
    stopped = lease.ok();
  });
  // Until the stop waits, shared leases are granted; from then on none is.
  while (leases.Acquire(Soon(), "pod", Mode::kShared).ok()) {
  }
  EXPECT_FALSE(stopped);
  held.reset();
  stop.join();
  EXPECT_TRUE(stopped);
  EXPECT_TRUE(leases.Acquire(Soon(), "pod", Mode::kShared).ok());
}

TEST(LeasesTest, CancellationEndsTheWait) {
  Leases leases;
  const auto held = leases.Acquire(base::Context(), "pod", Mode::kExclusive);
  const auto cancellation = std::make_shared<base::Cancellation>();
  std::thread cancel([&] { cancellation->Cancel(); });
  EXPECT_TRUE(absl::IsCancelled(
      leases
          .Acquire(base::Context(base::SteadyTime::InfiniteFuture(), cancellation), "pod",
                   Mode::kShared)
          .status()));
  cancel.join();
}

TEST(LeasesTest, ManyThreadsNeverShareAnExclusiveLease) {
  Leases leases;
  std::atomic<int> inside = 0;
  std::atomic<int> most = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const auto lease = leases.Acquire(base::Context(), "pod", Mode::kExclusive);
        most = std::max(most.load(), ++inside);
        --inside;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(most, 1);
}

}  // namespace
}  // namespace runtimeservice
