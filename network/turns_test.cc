#include "network/turns.h"

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::HasSubstr;
using Kind = Turns::Kind;

base::Context Short() { return base::Context::Detached(absl::Milliseconds(50)); }
base::Context Long() { return base::Context::Detached(absl::Seconds(30)); }

TEST(TurnsTest, OnePodWaitsForItselfAndNotForOthers) {
  Turns turns;
  auto first = std::optional(turns.Take(Long(), Kind::kAttach, "a"));
  ASSERT_TRUE((*first).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(turns.Take(Short(), Kind::kDetach, "a").status()));
  EXPECT_TRUE(turns.Take(Short(), Kind::kAttach, "b").ok());
  std::thread waiter([&] { EXPECT_TRUE(turns.Take(Long(), Kind::kDetach, "a").ok()); });
  first.reset();
  waiter.join();
}

TEST(TurnsTest, TooManyOfAKindWaitAndTheOtherKindDoesNot) {
  Turns turns({.at_once = 2, .slow = absl::Hours(1)});
  auto one = std::optional(turns.Take(Long(), Kind::kAttach, "1"));
  const auto two = turns.Take(Long(), Kind::kAttach, "2");
  EXPECT_TRUE(absl::IsDeadlineExceeded(turns.Take(Short(), Kind::kAttach, "3").status()));
  EXPECT_TRUE(turns.Take(Short(), Kind::kDetach, "4").ok());
  one.reset();
  EXPECT_TRUE(turns.Take(Long(), Kind::kAttach, "3").ok());
}

TEST(TurnsTest, NobodyWaitsForPluginsThatHang) {
  Turns turns({.at_once = 2, .slow = absl::Milliseconds(20)});
  const auto one = turns.Take(Long(), Kind::kAttach, "1");
  const auto two = turns.Take(Long(), Kind::kAttach, "2");
  const absl::Status refused = turns.Take(Long(), Kind::kAttach, "3").status();
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("the plugins hang"));
  EXPECT_TRUE(turns.Take(Short(), Kind::kDetach, "3").ok());
}

TEST(TurnsTest, CollectionWaitsForAllAndHoldsOthersOff) {
  Turns turns;
  auto running = std::optional(turns.Take(Long(), Kind::kAttach, "a"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(turns.TakeAll(Short()).status()));
  // Who comes while it waits goes first.
  EXPECT_TRUE(turns.Take(Short(), Kind::kAttach, "b").ok());
  running.reset();
  auto collection = std::optional(turns.TakeAll(Long()));
  ASSERT_TRUE((*collection).ok());
  EXPECT_TRUE(absl::IsDeadlineExceeded(turns.Take(Short(), Kind::kDetach, "a").status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(turns.TakeAll(Short()).status()));
  collection.reset();
  EXPECT_TRUE(turns.Take(Long(), Kind::kDetach, "a").ok());
}

TEST(TurnsTest, CancelledRequestStopsWaiting) {
  Turns turns;
  const auto running = turns.Take(Long(), Kind::kAttach, "a");
  const auto cancellation = std::make_shared<base::Cancellation>();
  std::thread waiter([&] {
    const base::Context ctx(base::SteadyTime::InfiniteFuture(), cancellation);
    EXPECT_TRUE(absl::IsCancelled(turns.Take(ctx, Kind::kAttach, "a").status()));
  });
  cancellation->Cancel();
  waiter.join();
}

TEST(TurnsTest, OperationsNeverMeetACollection) {
  Turns turns({.at_once = 3, .slow = absl::Hours(1)});
  std::atomic<int> operations = 0;
  std::atomic<bool> collecting = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 50; ++round) {
        const auto turn =
            turns.Take(Long(), i % 2 == 0 ? Kind::kAttach : Kind::kDetach, std::to_string(i));
        ASSERT_TRUE(turn.ok());
        EXPECT_LE(++operations, 6);
        EXPECT_FALSE(collecting);
        --operations;
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    const auto turn = turns.TakeAll(Long());
    ASSERT_TRUE(turn.ok());
    collecting = true;
    EXPECT_EQ(operations, 0);
    collecting = false;
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace
}  // namespace network
