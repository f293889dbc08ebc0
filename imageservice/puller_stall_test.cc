// Pulls that wait: for a slot, for another pull, for a registry that is away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "imageservice/testing/puller_fixture.h"

namespace imageservice {
namespace {

using testing::Eventually;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class PullerStallTest : public testing::PullerFixture {
 protected:
  PullerStallTest() : PullerFixture(CRISP_FAKE_PULL_WORKER) {}
  void Use(const PullEnvironment& environment, int max_parallel_pulls = 16) {
    puller_ = MakePuller(environment, max_parallel_pulls);
  }
  int Count(const std::string& note) const {
    const std::vector<std::string> notes = Notes();
    return static_cast<int>(std::count(notes.begin(), notes.end(), note));
  }
};

TEST_F(PullerStallTest, WhoAsksAgainGoesOnWhereThePullStopped) {
  const absl::Status stalled = Pull("q.io/a:ab.stall").status();
  EXPECT_TRUE(absl::IsUnavailable(stalled)) << stalled;
  EXPECT_EQ(stalled.message(), "pull it: HTTP 503");
  ASSERT_THAT(puller_->Progress(), SizeIs(1));
  EXPECT_TRUE(puller_->Progress()[0].stalled);
  const absl::StatusOr<ImagePtr> image = Pull("q.io/a:ab.stall");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(Count("stall"), 1) << "a second worker was started";
  EXPECT_EQ(Count("resumed"), 1);
  EXPECT_TRUE(Eventually([&] { return puller_->Progress().empty(); }));
}

TEST_F(PullerStallTest, OtherCredentialsStartAPullOfTheirOwn) {
  EXPECT_FALSE(Pull("q.io/a:a.stall").ok());
  EXPECT_FALSE(puller_->Pull(base::Context(), Plan("q.io/a:a.stall", "secret")).ok());
  EXPECT_EQ(Count("resumed"), 0);
}

TEST_F(PullerStallTest, AfterAWhileItIsGivenUpAndLeavesNothing) {
  PullEnvironment environment = Environment();
  environment.stalled_timeout = absl::Milliseconds(20);
  Use(environment);
  EXPECT_FALSE(Pull("q.io/a:ab.stall").ok());
  EXPECT_TRUE(Eventually([&] { return puller_->Progress().empty(); }));
  ExpectNothingLeft();
}

TEST_F(PullerStallTest, AWorkerThatDiesMeanwhileDoesNotFailTheNextPull) {
  EXPECT_FALSE(Pull("q.io/a:ab.stall-die").ok());
  EXPECT_TRUE(Eventually([&] { return puller_->Progress().empty(); }));
  EXPECT_TRUE(Pull("q.io/a:ab.ok").ok());
}

TEST_F(PullerStallTest, ItGivesItsLayersToAnotherPullThatWantsThem) {
  EXPECT_FALSE(Pull("q.io/a:ab.stall").ok());
  EXPECT_TRUE(Pull("q.io/b:ab.ok").ok());
  EXPECT_TRUE(Eventually([&] { return puller_->Progress().empty(); }));
}

TEST_F(PullerStallTest, ItDoesNotWaitForWhoWaitsForItsLayersAlready) {
  std::thread other;
  {
    // The stalling pull claims the layer first; the other one waits for it.
    std::thread stalling([&] { EXPECT_FALSE(Pull("q.io/a:ab.gate-stall").ok()); });
    ASSERT_TRUE(Eventually([&] { return Noted("gate-stall-0-fetch"); }));
    other = std::thread([&] { EXPECT_TRUE(Pull("q.io/b:ab.ok").ok()); });
    ASSERT_TRUE(Eventually([&] { return Noted("ok-0-wait"); }));
    OpenGate();
    stalling.join();
  }
  other.join();
}

TEST_F(PullerStallTest, OnlySoManyPullsStandStill) {
  for (const char name : {'a', 'b', 'c', 'd', 'e', 'f'}) {
    const std::string letter(1, name);
    EXPECT_FALSE(Pull("q.io/" + letter + ":" + letter + ".stall").ok());
  }
  EXPECT_TRUE(Eventually([&] { return puller_->Progress().size() == 4; }));
}

TEST_F(PullerStallTest, MorePullsThanMayRunTakeTurns) {
  Use(Environment(), 1);
  std::thread first([&] { EXPECT_TRUE(Pull("q.io/a:a.gate").ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("gate-0-fetch"); }));
  std::thread second([&] { EXPECT_TRUE(Pull("q.io/b:b.ok").ok()); });
  ASSERT_TRUE(Eventually([&] { return puller_->Progress().size() == 2; }));
  EXPECT_EQ(Count("ok"), 0);
  OpenGate();
  first.join();
  second.join();
}

TEST_F(PullerStallTest, APullThatWaitsForItsTurnCanBeCancelled) {
  Use(Environment(), 1);
  std::thread first([&] { EXPECT_TRUE(Pull("q.io/a:a.gate").ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("gate-0-fetch"); }));
  const base::Context ctx = base::Context().WithTimeout(absl::Milliseconds(20));
  EXPECT_TRUE(absl::IsDeadlineExceeded(Pull("q.io/b:b.ok", ctx).status()));
  OpenGate();
  first.join();
  EXPECT_EQ(Count("ok"), 0);
  EXPECT_TRUE(Pull("q.io/c:c.ok").ok()) << "the turn was lost";
}

TEST_F(PullerStallTest, APullThatStandsStillLetsOthersRun) {
  Use(Environment(), 1);
  EXPECT_FALSE(Pull("q.io/a:a.stall").ok());
  EXPECT_TRUE(Pull("q.io/b:b.ok").ok());
  EXPECT_TRUE(Pull("q.io/a:a.stall").ok());
  EXPECT_TRUE(Pull("q.io/c:c.ok").ok());
}

TEST_F(PullerStallTest, APullWithoutProgressFails) {
  PullEnvironment environment = Environment();
  environment.progress_timeout = absl::Milliseconds(50);
  Use(environment);
  const absl::Status status = Pull("q.io/a:a.hang").status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("no progress for 50ms"));
  ExpectNothingLeft();
}

TEST_F(PullerStallTest, WaitingForAnotherPullIsNoLackOfProgress) {
  std::thread fetching([&] { EXPECT_TRUE(Pull("q.io/a:a.gate").ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("gate-0-fetch"); }));
  PullEnvironment environment = Environment();
  environment.progress_timeout = absl::Seconds(2);  // Enough for a worker to start and to ask.
  const std::unique_ptr<Puller> hasty = MakePuller(environment, 16);
  std::thread waiting([&] { EXPECT_TRUE(hasty->Pull(base::Context(), Plan("q.io/b:a.ok")).ok()); });
  EXPECT_TRUE(Eventually([&] { return Noted("ok-0-wait"); }));
  // Began later, so its time is up later.
  EXPECT_FALSE(hasty->Pull(base::Context(), Plan("q.io/c:c.hang")).ok());
  EXPECT_THAT(hasty->Progress(), SizeIs(1));
  OpenGate();
  waiting.join();
  fetching.join();
}

}  // namespace
}  // namespace imageservice
