// kill -9 at random moments of a pod's life: what is left afterwards always has a record.
// CRISP_CRASH_ROUNDS and CRISP_CRASH_SEED change how often and when.
#include <poll.h>

#include <random>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

// The 64 hexadecimal digits in `text`, if there are some.
std::string FindId(const std::string& text) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (size_t at = text.find_first_of(kDigits); at != std::string::npos;
       at = text.find_first_of(kDigits, at)) {
    const size_t end = std::min(text.find_first_not_of(kDigits, at), text.size());
    if (end - at == 64) return text.substr(at, 64);
    at = end;
  }
  return "";
}

class CrashTest : public IntegrationTest {
 protected:
  // The ids that have a record on disk.
  std::set<std::string> Recorded() const {
    std::set<std::string> ids;
    for (const char* kind : {"pods", "containers"}) {
      const auto names =
          base::ListDirectory(base::StrCat(environment().Get("ROOT"), "/records/", kind));
      if (names.ok()) ids.insert(names->begin(), names->end());
    }
    return ids;
  }

  // What is there with the id of something that no record knows.
  std::vector<std::string> Orphans() const {
    const std::set<std::string> recorded = Recorded();
    std::vector<std::string> orphans;
    for (const std::string& left : Leftovers()) {
      const std::string id = FindId(left);
      if (!id.empty() && !recorded.contains(id)) orphans.push_back(left);
    }
    return orphans;
  }

  // Pods come and go until a call fails, as it does when the daemon dies.
  void LiveUntilFailure(int round) const {
    for (int i = 0;; ++i) {
      const std::string name = base::StrCat("crash", round, "-", i);
      const auto pod = RunPod(name);
      if (!pod.ok()) return;
      const auto container = RunContainer(*pod, "c", "echo hello; exec sleep 4321");
      if (!container.ok()) return;
      if (!Exec(*container, {"true"}).ok()) return;
      if (i % 2 == 0 && !StopContainer(*container, 0).ok()) return;
      if (i % 3 == 0 && !RemoveContainer(*container).ok()) return;
      if (!StopPod(*pod).ok()) return;
      if (!RemovePod(*pod).ok()) return;
    }
  }

  absl::Status RemoveAllPods() const {
    ASSIGN_OR_RETURN(const std::vector<cri::PodSandbox> pods, Pods());
    for (const cri::PodSandbox& pod : pods) {
      RETURN_IF_ERROR(StopPod(pod.id()));
      RETURN_IF_ERROR(RemovePod(pod.id()));
    }
    return absl::OkStatus();
  }
};

TEST_F(CrashTest, NothingIsLeftWithoutARecord) {
  ASSERT_OK(Pull(kBusybox));
  const unsigned rounds = EnvironmentNumber("CRISP_CRASH_ROUNDS", 8);
  const unsigned seed = EnvironmentNumber("CRISP_CRASH_SEED", std::random_device()());
  RecordProperty("seed", std::to_string(seed));
  std::mt19937 random(seed);
  for (unsigned round = 0; round < rounds; ++round) {
    SCOPED_TRACE(base::StrCat("round ", round, ", CRISP_CRASH_SEED=", seed));
    std::thread life([&] { LiveUntilFailure(static_cast<int>(round)); });
    // The moment of the crash is the point of the test: nothing is waited for.
    poll(nullptr, 0, static_cast<int>(random() % 700));
    EXPECT_OK(daemon().Crash());
    life.join();
    ASSERT_OK(daemon().Start());
    EXPECT_TRUE(Eventually([&] { return Orphans().empty(); }));
    EXPECT_THAT(Orphans(), testing::IsEmpty());
    ASSERT_OK(RemoveAllPods());
    EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
    ASSERT_THAT(Leftovers(), testing::IsEmpty());
  }
  EXPECT_OK(RunPod("afterwards"));
}

TEST_F(CrashTest, ACrashDuringRecoveryIsRecoveredFrom) {
  ASSERT_OK(Pull(kBusybox));
  std::mt19937 random(EnvironmentNumber("CRISP_CRASH_SEED", std::random_device()()));
  std::thread life([&] { LiveUntilFailure(1000); });
  poll(nullptr, 0, static_cast<int>(200 + random() % 400));
  EXPECT_OK(daemon().Crash());
  life.join();
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK(daemon().Launch());
    poll(nullptr, 0, static_cast<int>(random() % 40));
    EXPECT_OK(daemon().Crash());
  }
  ASSERT_OK(daemon().Start());
  EXPECT_TRUE(Eventually([&] { return Orphans().empty(); }));
  EXPECT_THAT(Orphans(), testing::IsEmpty());
  ASSERT_OK(RemoveAllPods());
  EXPECT_TRUE(Eventually([&] { return Leftovers().empty(); }));
  EXPECT_THAT(Leftovers(), testing::IsEmpty());
}

}  // namespace
}  // namespace test
