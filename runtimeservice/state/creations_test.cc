#include "runtimeservice/state/creations.h"

#include <atomic>
#include <latch>
#include <memory>
#include <thread>

#include "gtest/gtest.h"

namespace runtimeservice {
namespace {

TEST(CreationsTest, ARetryJoinsAndGetsTheSameId) {
  Creations creations;
  std::latch running(1);
  std::latch release(1);
  std::atomic<int> made = 0;
  absl::StatusOr<std::string> first;
  std::thread caller([&] {
    first = creations.Run(base::Context(), "pod", "group",
                          [&](const base::Context&) -> absl::StatusOr<std::string> {
                            ++made;
                            running.count_down();
                            release.wait();
                            return std::string("id");
                          });
  });
  running.wait();
  absl::StatusOr<std::string> second;
  std::thread retry([&] {
    second = creations.Run(base::Context(), "pod", "group",
                           [&](const base::Context&) -> absl::StatusOr<std::string> {
                             ++made;
                             return std::string("other");
                           });
  });
  // A joiner with no time left goes alone and does not disturb the others.
  const base::Context expired(base::SteadyTime::Now() - absl::Seconds(1), nullptr);
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      creations.Run(expired, "pod", "group", [&](const base::Context&) { return "x"; }).status()));
  release.count_down();
  caller.join();
  retry.join();
  EXPECT_EQ(*first, "id");
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(made, *second == "id" ? 1 : 2);  // It may have come after the end of the first.
}

TEST(CreationsTest, TheWorkIsCancelledWhenTheLastCallerGoes) {
  Creations creations;
  const auto cancellation = std::make_shared<base::Cancellation>();
  std::thread cancel;
  const auto result =
      creations.Run(base::Context(base::SteadyTime::InfiniteFuture(), cancellation), "pod", "group",
                    [&](const base::Context& ctx) -> absl::StatusOr<std::string> {
                      EXPECT_TRUE(ctx.Check().ok());
                      cancel = std::thread([&] { cancellation->Cancel(); });
                      cancel.join();
                      return ctx.Check();
                    });
  EXPECT_TRUE(absl::IsCancelled(result.status()));
}

TEST(CreationsTest, AGroupCanBeCancelled) {
  Creations creations;
  const auto result = creations.Run(base::Context(), "container", "pod",
                                    [&](const base::Context& ctx) -> absl::StatusOr<std::string> {
                                      creations.CancelGroup("another pod");
                                      EXPECT_TRUE(ctx.Check().ok());
                                      creations.CancelGroup("pod");
                                      return ctx.Check();
                                    });
  EXPECT_TRUE(absl::IsCancelled(result.status()));
}

}  // namespace
}  // namespace runtimeservice
