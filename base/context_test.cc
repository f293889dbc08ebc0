#include "base/context.h"

#include <poll.h>

#include "gtest/gtest.h"

namespace base {
namespace {

bool Readable(int fd) {
  pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, 0) == 1;
}

TEST(ContextTest, DefaultNeverEnds) {
  const Context ctx;
  EXPECT_TRUE(ctx.Check().ok());
  EXPECT_EQ(ctx.cancel_fd(), -1);
  EXPECT_EQ(ctx.PollTimeout(), -1);
}

TEST(ContextTest, CancellationReachesDescriptorsMadeBeforeAndAfter) {
  const auto cancellation = std::make_shared<Cancellation>();
  const Context before(SteadyTime::InfiniteFuture(), cancellation);
  EXPECT_FALSE(Readable(before.cancel_fd()));
  cancellation->Cancel();
  EXPECT_TRUE(Readable(before.cancel_fd()));
  EXPECT_TRUE(absl::IsCancelled(before.Check()));

  const auto late = std::make_shared<Cancellation>();
  late->Cancel();
  EXPECT_TRUE(Readable(Context(SteadyTime::InfiniteFuture(), late).cancel_fd()));
}

TEST(ContextTest, CallbacksRunOnceAndNotAfterTheirEnd) {
  const auto cancellation = std::make_shared<Cancellation>();
  const Context ctx(SteadyTime::InfiniteFuture(), cancellation);
  int live = 0;
  int ended = 0;
  int late = 0;
  const CancelCallback kept(ctx, [&] { ++live; });
  {
    const CancelCallback gone(ctx, [&] { ++ended; });
  }
  cancellation->Cancel();
  cancellation->Cancel();
  const CancelCallback after(ctx, [&] { ++late; });
  EXPECT_EQ(live, 1);
  EXPECT_EQ(ended, 0);
  EXPECT_EQ(late, 1);
}

TEST(ContextTest, DeadlineIsTheEarlierOne) {
  const Context ctx(SteadyTime::Now() + absl::Hours(1), nullptr);
  const Context soon = ctx.WithTimeout(absl::Milliseconds(5));
  EXPECT_LE(soon.PollTimeout(), 5);
  EXPECT_GT(ctx.WithTimeout(absl::Hours(2)).PollTimeout(), 3'000'000);
  EXPECT_LE(ctx.WithTimeout(absl::Hours(2)).PollTimeout(), 3'600'000);
  EXPECT_TRUE(absl::IsDeadlineExceeded(ctx.WithTimeout(-absl::Seconds(1)).Check()));
}

}  // namespace
}  // namespace base
