#include "runtimeservice/host_paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "base/clock.h"

namespace runtimeservice {
namespace {

using ::testing::HasSubstr;

using Look = std::function<absl::StatusOr<int>(HostPaths::Progress&)>;

// A look at `path` that hangs until `release` is given a value.
Look Hanging(const std::string& path, const std::shared_future<void>& release) {
  return [path, release](HostPaths::Progress& progress) -> absl::StatusOr<int> {
    const absl::Status at = progress.At("mounts[3].host_path", path);
    if (!at.ok()) {
      return at;
    }
    release.wait();
    return 1;
  };
}

Look Quick(const std::string& path) {
  return [path](HostPaths::Progress& progress) -> absl::StatusOr<int> {
    const absl::Status at = progress.At("mounts[0].host_path", path);
    return at.ok() ? absl::StatusOr<int>(2) : at;
  };
}

TEST(HostPathsTest, TheLooksResultIsReturned) {
  HostPaths paths;
  const base::Context ctx;
  EXPECT_EQ(*paths.Look(ctx, Quick("/a")), 2);
  const auto failed = paths.Look<int>(ctx, [](HostPaths::Progress&) -> absl::StatusOr<int> {
    return absl::NotFoundError("words");
  });
  EXPECT_EQ(failed.status(), absl::NotFoundError("words"));
}

TEST(HostPathsTest, AHangEndsAtTheLimitAndNamesFieldAndPath) {
  std::promise<void> release;
  HostPaths paths(absl::Milliseconds(50));
  const absl::Status status =
      paths.Look(base::Context(), Hanging("/dead/server", release.get_future().share())).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("mounts[3].host_path: /dead/server"));
  release.set_value();
}

TEST(HostPathsTest, TheAnswerComesBeforeTheRequestsOwnDeadline) {
  std::promise<void> release;
  HostPaths paths;
  const base::Context ctx = base::Context::Detached(absl::Milliseconds(200));
  const absl::Status status =
      paths.Look(ctx, Hanging("/dead/server", release.get_future().share())).status();
  EXPECT_TRUE(ctx.Check().ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("/dead/server does not answer"));
  release.set_value();
}

TEST(HostPathsTest, ARetryDoesNotHangAtTheSamePathAndOthersGoOn) {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  HostPaths paths(absl::Milliseconds(50));
  const base::Context ctx;
  EXPECT_FALSE(paths.Look(ctx, Hanging("/dead/server", released)).ok());
  // It would return at once if it looked.
  const absl::Status again = paths.Look(ctx, Quick("/dead/server")).status();
  EXPECT_EQ(again.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(again.message()), HasSubstr("mounts[0].host_path: /dead/server"));
  EXPECT_EQ(*paths.Look(ctx, Quick("/alive")), 2);
  release.set_value();
  // The path is free again once the look that hung has returned.
  const base::SteadyTime end = base::SteadyTime::Now() + absl::Seconds(20);
  while (!paths.Look(ctx, Quick("/dead/server")).ok() && base::SteadyTime::Now() < end) {
    std::this_thread::yield();
  }
  EXPECT_EQ(*paths.Look(ctx, Quick("/dead/server")), 2);
}

TEST(HostPathsTest, ALookNobodyWaitsForTouchesNoFurtherPath) {
  std::promise<void> release;
  std::promise<absl::Status> second;
  HostPaths paths(absl::Milliseconds(50));
  const auto result = paths.Look<int>(base::Context(), [released = release.get_future().share(),
                                                        &second](HostPaths::Progress& progress) {
    EXPECT_TRUE(progress.At("a", "/a").ok());
    released.wait();
    second.set_value(progress.At("b", "/b"));
    return absl::StatusOr<int>(0);
  });
  EXPECT_FALSE(result.ok());
  release.set_value();
  EXPECT_TRUE(absl::IsCancelled(second.get_future().get()));
}

TEST(HostPathsTest, ACancelledRequestDoesNotWait) {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  HostPaths paths;
  const auto cancellation = std::make_shared<base::Cancellation>();
  const base::Context ctx(base::SteadyTime::InfiniteFuture(), cancellation);
  const auto result = paths.Look<int>(ctx, [released, cancellation](HostPaths::Progress& progress) {
    EXPECT_TRUE(progress.At("a", "/a").ok());
    cancellation->Cancel();
    released.wait();
    return absl::StatusOr<int>(0);
  });
  EXPECT_TRUE(absl::IsCancelled(result.status())) << result.status();
  release.set_value();
}

}  // namespace
}  // namespace runtimeservice
