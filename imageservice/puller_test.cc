#include "imageservice/puller.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "imageservice/testing/fake_image.h"
#include "imageservice/testing/puller_fixture.h"

namespace imageservice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string IdOf(const std::string& letters) { return testing::MakeFakeImage(letters).id; }

using testing::Eventually;

class PullerTest : public testing::PullerFixture {
 protected:
  PullerTest() : PullerFixture(CRISP_FAKE_PULL_WORKER) {}
};

TEST_F(PullerTest, LayersAndImageAreCommitted) {
  const absl::StatusOr<ImagePtr> image = Pull("q.io/a:abc.ok");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ((*image)->id, IdOf("abc"));
  ASSERT_THAT((*image)->chain_ids, SizeIs(3));
  EXPECT_EQ(base::ReadFile(layers_->PathOf((*image)->chain_ids[2]) + "/file-c").value(), "abc");
  EXPECT_THAT(Names("staging"), IsEmpty());
  EXPECT_EQ(commits_, 1);
}

TEST_F(PullerTest, AnImageWithoutLayersIsAnImage) {
  const absl::StatusOr<ImagePtr> image = Pull("q.io/a:_.ok");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_THAT((*image)->chain_ids, IsEmpty());
  EXPECT_GT((*image)->bytes, 0u);
}

TEST_F(PullerTest, LayersThatAreHereAreNotFetchedAgain) {
  ASSERT_TRUE(Pull("q.io/a:ab.ok").ok());
  ASSERT_TRUE(Pull("q.io/b:abc.ok").ok());
  EXPECT_THAT(Notes(), ElementsAre("ok", "ok-0-fetch", "ok-1-fetch", "ok", "ok-0-have", "ok-1-have",
                                   "ok-2-fetch"));
}

TEST_F(PullerTest, TheSamePullIsSharedAndDifferentCredentialsAreNot) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { EXPECT_TRUE(Pull("q.io/a:a.gate").ok()); });
  }
  ASSERT_TRUE(Eventually([&] { return Noted("gate-0-fetch"); }));
  threads.emplace_back(
      [&] { EXPECT_TRUE(puller_->Pull(base::Context(), Plan("q.io/a:a.gate", "x")).ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("gate-0-wait"); }));
  EXPECT_THAT(puller_->Progress(), SizeIs(2));
  OpenGate();
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(commits_, 2);
  EXPECT_THAT(puller_->Progress(), IsEmpty());
}

TEST_F(PullerTest, ALayerIsFetchedOnceForConcurrentPulls) {
  std::thread first([&] { EXPECT_TRUE(Pull("q.io/a:ab.gate").ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("gate-0-fetch"); }));
  std::thread second([&] { EXPECT_TRUE(Pull("q.io/b:abc.ok").ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("ok-0-wait") && Noted("ok-1-wait"); }));
  OpenGate();
  first.join();
  second.join();
  EXPECT_TRUE(Noted("ok-0-have") && Noted("ok-1-have"));
  EXPECT_FALSE(Noted("ok-0-fetch"));
}

TEST_F(PullerTest, AWaiterWhoseFetcherDiesBecomesTheFetcher) {
  auto cancellation = std::make_shared<base::Cancellation>();
  std::thread first([&] {
    const base::Context ctx(base::SteadyTime::InfiniteFuture(), cancellation);
    EXPECT_TRUE(absl::IsCancelled(Pull("q.io/a:ab.hang", ctx).status()));
  });
  ASSERT_TRUE(Eventually([&] { return Noted("hang-0-fetch"); }));
  std::thread second([&] { EXPECT_TRUE(Pull("q.io/b:abc.ok").ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("ok-0-wait") && Noted("ok-1-wait"); }));
  cancellation->Cancel();
  first.join();
  second.join();
  EXPECT_TRUE(Noted("ok-0-fetch") && Noted("ok-1-fetch"));
}

TEST_F(PullerTest, ADeadlineIsPromptAndLeavesNothing) {
  const absl::Time begin = absl::Now();
  const absl::Status status =
      Pull("q.io/a:ab.hang", base::Context().WithTimeout(absl::Milliseconds(200))).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("pull q.io/a:ab.hang"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
  ASSERT_TRUE(Eventually([&] { return puller_->Progress().empty(); }));
  ExpectNothingLeft();
}

TEST_F(PullerTest, ADeadlineInThePastStartsNothing) {
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      Pull("q.io/a:ab.ok", base::Context().WithTimeout(-absl::Seconds(1))).status()));
  EXPECT_THAT(Notes(), IsEmpty());
}

TEST_F(PullerTest, ACallerWhoLeavesDoesNotEndWhatOthersWaitFor) {
  std::thread stays([&] { EXPECT_TRUE(Pull("q.io/a:a.gate").ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("gate-0-fetch"); }));
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      Pull("q.io/a:a.gate", base::Context().WithTimeout(absl::Milliseconds(50))).status()));
  EXPECT_THAT(puller_->Progress(), SizeIs(1));
  OpenGate();
  stays.join();
  EXPECT_THAT(images_->List(), SizeIs(1));
}

TEST_F(PullerTest, AfterACancelledPullANewOneStartsAfresh) {
  EXPECT_FALSE(Pull("q.io/a:a.gate", base::Context().WithTimeout(absl::Milliseconds(50))).ok());
  std::thread again([&] { EXPECT_TRUE(Pull("q.io/a:a.gate").ok()); });
  ASSERT_TRUE(Eventually([&] { return Noted("gate-0-fetch"); }));
  OpenGate();
  again.join();
}

TEST_F(PullerTest, ACrashOfTheWorkerCostsThePullOnly) {
  const absl::Status status = Pull("q.io/a:abc.crash").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("exit code 134"));
  ExpectNothingLeft();
  EXPECT_TRUE(Pull("q.io/a:abc.ok").ok());
}

TEST_F(PullerTest, AMissingWorkerIsAnError) {
  PullEnvironment environment = Environment();
  environment.worker_path = "/nonexistent";
  EXPECT_FALSE(MakePuller(environment, 1)->Pull(base::Context(), Plan("q.io/a:a.ok")).ok());
  ExpectNothingLeft();
}

TEST_F(PullerTest, WorkersThatLieAreRefusedAndLeaveNothing) {
  for (const std::string behaviour :
       {"garbage", "resolves-twice", "early-done", "silent-end", "wrong-endpoint", "wrong-diff-id",
        "wrong-parent", "wrong-directory", "wrong-index", "wrong-content", "no-verdict", "twice",
        "no-directory", "missing-link"}) {
    const absl::Status status = Pull("q.io/a:abc." + behaviour).status();
    EXPECT_FALSE(status.ok()) << behaviour;
    ExpectNothingLeft();
  }
  EXPECT_FALSE(Pull("q.io/a:ab.wrong-digest@sha256:" + std::string(64, '5')).ok());
  ExpectNothingLeft();
}

TEST_F(PullerTest, DeferredOperationsSeeTheLowerLayers) {
  const absl::StatusOr<ImagePtr> image = Pull("q.io/a:ab.links");
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(base::ReadFile(layers_->PathOf((*image)->chain_ids[1]) + "/link").value(), "a");
}

// Each of the layers is within its limit; it is their sum that waits for the lowest one.
TEST_F(PullerTest, LayersThatWaitForALowerOneHaveALimitOnWhatTheyDefer) {
  const absl::Status status = Pull("q.io/a:abcdef.hoard").status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("wait for a lower one"));
  ExpectNothingLeft();
}

TEST_F(PullerTest, TokensAreKeptForTheNextPull) {
  ASSERT_TRUE(Pull("q.io/a:a.ok").ok());
  ASSERT_TRUE(Pull("q.io/a:ab.ok").ok());
  ASSERT_TRUE(Pull("q.io/other:ab.ok").ok());
  const std::string starts = base::ReadFile(directory_ / "starts").value();
  EXPECT_THAT(starts, HasSubstr("ok -\n"));
  EXPECT_THAT(starts, HasSubstr("ok a-token\n"));
  EXPECT_EQ(starts.substr(starts.rfind("ok-0-have") - 5, 4), "ok -") << starts;
}

TEST_F(PullerTest, TheEndOfTheDaemonCancelsPulls) {
  std::thread caller([&] { EXPECT_TRUE(absl::IsCancelled(Pull("q.io/a:a.mute").status())); });
  ASSERT_TRUE(Eventually([&] { return Noted("mute"); }));
  // The destructor waits for the pull's thread, which ends only if its worker was killed; the
  // caller has to be gone before, so cancel the way the destructor does and join in between.
  puller_->CancelAll();
  caller.join();
  puller_.reset();
  ExpectNothingLeft();
}

TEST(TokenCacheTest, ExpiredTokensAreNotHandedOut) {
  TokenCache cache;
  worker::Endpoint endpoint;
  endpoint.base_url = "https://q.io";
  cache.Keep(endpoint, {.endpoint = 0, .token = "old", .expires_at = 1});
  EXPECT_EQ(cache.Find(endpoint), "");
  cache.Keep(endpoint, {.endpoint = 0, .token = "new", .expires_at = 4102444800});
  EXPECT_EQ(cache.Find(endpoint), "new");
  endpoint.credentials.password = "other";
  EXPECT_EQ(cache.Find(endpoint), "");
}

}  // namespace
}  // namespace imageservice
