#include "network/detach_debts.h"

#include <atomic>
#include <memory>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "network/test_host.h"

namespace network {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DetachDebtsTest : public testing::Test {
 protected:
  DetachDebtsTest() {
    WriteTestFile(dir_ / "conf/10.conf", R"({"cniVersion":"1.0.0","name":"pods","type":"one"})");
    // Fails until the file "works" is there; hangs for ever if the file "hangs" is, which it has
    // decided when the log tells of it.
    WriteTestFile(dir_ / "bin/one",
                  base::StrCat("#!/bin/sh\n[ -e ", dir_ / "hangs", " ]\nhangs=$?\necho $$ >> ",
                               dir_ / "log", "\n[ $hangs = 0 ] && exec sleep 1000\n[ -e ",
                               dir_ / "works", " ] || { echo down; exit 1; }\n"),
                  0755);
    debts_ = std::make_unique<DetachDebts>(
        network_,
        DetachDebts::Backoff{.first = absl::Milliseconds(5), .longest = absl::Milliseconds(20)});
  }
  std::string Plan(const base::PodId& pod) { return *network_.Prepare(PodAttachment{.pod = pod}); }
  void Add(const base::PodId& pod) {
    debts_->Add({.pod = pod,
                 .plan = Plan(pod),
                 .result = "",
                 .netns_path = "",
                 .done = [this] { ++done_; },
                 .failed = [this](int attempts) { failed_ = attempts; }});
  }
  size_t Attempts() const { return ReadLines(dir_ / "log").size(); }

  TempDir dir_;
  const base::Launcher launcher_{"", ""};
  PodNetwork network_{NetworkConfig{.conf_dir = dir_ / "conf", .plugin_dirs = {dir_ / "bin"}},
                      launcher_};
  std::atomic<int> done_ = 0;
  std::atomic<int> failed_ = 0;
  std::unique_ptr<DetachDebts> debts_;
  const base::PodId pod_ = base::PodId::Random();
};

TEST_F(DetachDebtsTest, FailedDetachIsTriedUntilItSucceeds) {
  Add(pod_);
  ASSERT_TRUE(Eventually([&] { return Attempts() >= 3; }));
  EXPECT_EQ(done_, 0);
  EXPECT_TRUE(Eventually([&] { return failed_ >= 3; }));
  EXPECT_EQ(debts_->Count(), 1u);
  EXPECT_TRUE(debts_->Has(pod_));
  WriteTestFile(dir_ / "works", "");
  EXPECT_TRUE(Eventually([&] { return done_ == 1; }));
  EXPECT_THAT(debts_->List(), IsEmpty());
  EXPECT_FALSE(debts_->Has(pod_));
}

TEST_F(DetachDebtsTest, FirstTryMayBeAtOnceAndSuccessesCallTheOthers) {
  debts_ = std::make_unique<DetachDebts>(
      network_, DetachDebts::Backoff{.first = absl::Hours(1), .longest = absl::Hours(1)});
  WriteTestFile(dir_ / "works", "");
  Add(pod_);
  Add(base::PodId::Random());
  EXPECT_EQ(Attempts(), 0u);
  const base::PodId other = base::PodId::Random();
  debts_->Add({.pod = other,
               .plan = Plan(other),
               .result = "",
               .netns_path = "",
               .done = [this] { ++done_; },
               .first = DetachDebts::FirstTry::kNow});
  EXPECT_TRUE(Eventually([&] { return done_ == 3; }));
  EXPECT_EQ(Attempts(), 3u);
}

TEST_F(DetachDebtsTest, HurryDoesNotRepeatWhatFailedJustNow) {
  debts_ = std::make_unique<DetachDebts>(
      network_, DetachDebts::Backoff{.first = absl::Hours(1), .longest = absl::Hours(1)});
  Add(pod_);
  debts_->Hurry();
  EXPECT_TRUE(Eventually([&] { return failed_ == 1; }));
  debts_->Hurry();
  EXPECT_GT(debts_->List()[0].next_attempt, base::SteadyTime::Now() + absl::Minutes(30));
  EXPECT_EQ(Attempts(), 1u);
}

TEST_F(DetachDebtsTest, ListTellsAttemptsErrorAndNextTime) {
  Add(pod_);
  ASSERT_TRUE(Eventually([&] { return debts_->List()[0].attempts >= 2; }));
  const std::vector<DetachDebts::Debt> list = debts_->List();
  ASSERT_THAT(list, SizeIs(1));
  EXPECT_EQ(list[0].pod, pod_);
  EXPECT_THAT(list[0].last_error, HasSubstr("plugin one: DEL: exit code 1: down"));
  EXPECT_LT(list[0].next_attempt, base::SteadyTime::Now() + absl::Seconds(1));
}

TEST_F(DetachDebtsTest, PausesGrowUpToTheLongest) {
  debts_ = std::make_unique<DetachDebts>(
      network_, DetachDebts::Backoff{.first = absl::Milliseconds(1), .longest = absl::Hours(1)});
  Add(pod_);
  // 1 ms doubled ten times is more than a second.
  EXPECT_TRUE(Eventually([&] {
    return debts_->List()[0].next_attempt > base::SteadyTime::Now() + absl::Milliseconds(500);
  }));
  EXPECT_GE(debts_->List()[0].attempts, 9);
}

TEST_F(DetachDebtsTest, HangingDetachDoesNotHoldUpOthers) {
  WriteTestFile(dir_ / "works", "");
  WriteTestFile(dir_ / "hangs", "");
  Add(pod_);
  ASSERT_TRUE(Eventually([&] { return Attempts() == 1; }));
  base::RemoveFile(dir_ / "hangs").IgnoreError();
  Add(base::PodId::Random());
  EXPECT_TRUE(Eventually([&] { return done_ == 1; }));
  ASSERT_THAT(debts_->List(), SizeIs(1));
  EXPECT_EQ(debts_->List()[0].pod, pod_);
}

TEST_F(DetachDebtsTest, ManyDebtsAreAllPaid) {
  for (int i = 0; i < 20; ++i) {
    Add(base::PodId::Random());
  }
  WriteTestFile(dir_ / "works", "");
  EXPECT_TRUE(Eventually([&] { return done_ == 20; }));
  EXPECT_THAT(debts_->List(), IsEmpty());
}

TEST_F(DetachDebtsTest, PodHasOneDebt) {
  Add(pod_);
  Add(pod_);
  EXPECT_THAT(debts_->List(), SizeIs(1));
  WriteTestFile(dir_ / "works", "");
  EXPECT_TRUE(Eventually([&] { return debts_->List().empty() && done_ > 0; }));
  debts_.reset();
  EXPECT_EQ(done_, 1);
}

TEST_F(DetachDebtsTest, ForgottenDebtIsNotPaid) {
  Add(pod_);
  ASSERT_TRUE(Eventually([&] { return Attempts() >= 1; }));
  debts_->Forget(pod_);
  debts_->Forget(pod_);
  EXPECT_THAT(debts_->List(), IsEmpty());
  WriteTestFile(dir_ / "works", "");
  debts_.reset();
  EXPECT_EQ(done_, 0);
}

TEST_F(DetachDebtsTest, ShutdownKillsARunningAttempt) {
  WriteTestFile(dir_ / "hangs", "");
  Add(pod_);
  ASSERT_TRUE(Eventually([&] { return Attempts() == 1; }));
  debts_.reset();
  EXPECT_FALSE(base::Exists("/proc/" + ReadLines(dir_ / "log")[0]));
  EXPECT_EQ(done_, 0);
}

}  // namespace
}  // namespace network
