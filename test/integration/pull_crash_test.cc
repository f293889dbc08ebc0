// kill -9 of pull workers and of the daemon at random moments of pulls and removals: what is listed
// afterwards is whole, and nothing else is there. CRISP_CRASH_ROUNDS and CRISP_CRASH_SEED change
// how often and when.
#include <poll.h>
#include <signal.h>

#include <atomic>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/record_store.h"
#include "base/strings.h"
#include "proto/state.pb.h"
#include "test/integration/image_checks.h"
#include "test/integration/throttled_registry.h"

namespace test {
namespace {

using testing::IsEmpty;

class PullCrashTest : public ImageStoreTest {
 protected:
  void Prepare() override {
    const std::string registry = Image("");
    slow_.emplace(registry.substr(0, registry.size() - 1), 8 << 20);
    const std::string path = base::StrCat(environment().Get("RUN"), "/registries.conf");
    ASSERT_OK_AND_ASSIGN(const std::string known, base::ReadFile(path));
    ASSERT_OK(base::ReplaceFile(path,
                                base::StrCat(known, "\n[[registry]]\nlocation = \"",
                                             slow_->address(), "\"\ninsecure = true\n"),
                                0644, base::Durability::kVolatile));
  }

  std::string Slow(std::string_view name) const {
    return base::StrCat(slow_->address(), "/", name);
  }
  std::string many() const { return Slow("crisp-test/many:latest"); }

  // An image that stays, the contents of all layers, and how long a pull takes.
  void Learn() {
    ASSERT_OK(Pull(kBusybox));
    const absl::Time begin = absl::Now();
    ASSERT_OK(PullFull(many()));
    pull_time_ = absl::Now() - begin;
    RememberLayers();
    ASSERT_THAT(StoreFaults(), IsEmpty());
    ASSERT_OK(RemoveImage(many()));
    const unsigned seed = EnvironmentNumber("CRISP_CRASH_SEED", std::random_device()());
    RecordProperty("seed", std::to_string(seed));
    where_ = base::StrCat("CRISP_CRASH_SEED=", seed);
    random_.seed(seed);
  }
  // The moment is the point of the test: nothing is waited for.
  void LetPass(double pull_times) {
    const auto longest = static_cast<unsigned>(absl::ToDoubleMilliseconds(pull_time_) * pull_times);
    poll(nullptr, 0, static_cast<int>(random_() % (longest + 1)));
  }
  void ExpectWhole() {
    EXPECT_THAT(StoreFaults(), IsEmpty());
    const auto status = ImageStatus(Image(kBusybox));
    EXPECT_TRUE(status.ok() && status->has_image()) << "an image that was there before";
  }

  std::optional<ThrottledRegistry> slow_;
  absl::Duration pull_time_;
  std::string where_;
  std::mt19937 random_;
};

TEST_F(PullCrashTest, AWorkerKilledAtAnyMomentLeavesNothing) {
  ASSERT_NO_FATAL_FAILURE(Learn());
  const unsigned rounds = EnvironmentNumber("CRISP_CRASH_ROUNDS", 10);
  unsigned failed = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    SCOPED_TRACE(base::StrCat("round ", round, ", ", where_));
    absl::Status pulled;
    std::thread caller([&] { pulled = PullFull(many()).status(); });
    LetPass(1);
    // Network process, forker or one of the parsers.
    const std::vector<pid_t> workers = base::CgroupProcesses(environment().Get("CGROUP") + "/work");
    if (!workers.empty()) kill(workers[random_() % workers.size()], SIGKILL);
    caller.join();
    ASSERT_OK_AND_ASSIGN(const cri::ImageStatusResponse status, ImageStatus(many()));
    EXPECT_EQ(status.has_image(), pulled.ok());
    failed += pulled.ok() ? 0 : 1;
    EXPECT_NE(pulled.code(), absl::StatusCode::kDeadlineExceeded) << pulled;
    ExpectWhole();
    ASSERT_OK(RemoveImage(many()));
    EXPECT_TRUE(Eventually([&] { return Names("layers").size() == 1; }));
  }
  EXPECT_GT(failed, 0u) << "no moment was within a pull";
  EXPECT_OK(PullFull(many()));
  ExpectWhole();
}

TEST_F(PullCrashTest, TheDaemonKilledAtAnyMomentLeavesWholeImagesOnly) {
  ASSERT_NO_FATAL_FAILURE(Learn());
  const unsigned rounds = EnvironmentNumber("CRISP_CRASH_ROUNDS", 10);
  unsigned pulls = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    SCOPED_TRACE(base::StrCat("round ", round, ", ", where_));
    std::atomic<bool> ended = false;
    std::thread life([&] {
      while (!ended && PullFull(many()).ok()) {
        ++pulls;
        if (ended || !RemoveImage(many()).ok()) return;
      }
    });
    LetPass(1.5);
    EXPECT_OK(daemon().Crash());
    ended = true;
    ASSERT_OK(daemon().Start());  // Before the join: a call that had not begun waits for it.
    life.join();
    ExpectWhole();
    ASSERT_OK(RemoveImage(many()));
  }
  RecordProperty("pulls", std::to_string(pulls));
  EXPECT_OK(PullFull(many()));
  ExpectWhole();
}

// What a reboot finds when the power failed before the syncfs: records of the last boot, and files
// whose content never reached the disk.
TEST_F(PullCrashTest, PowerLossCostsOnlyWhatWasNotDurable) {
  ASSERT_NO_FATAL_FAILURE(Learn());
  ASSERT_OK_AND_ASSIGN(const std::string id, PullFull(many()));
  ASSERT_OK(daemon().Crash());
  const auto images =
      base::RecordStore::Existing(Root("records/images"), base::Durability::kVolatile);
  const auto layers =
      base::RecordStore::Existing(Root("records/layers"), base::Durability::kVolatile);
  crisp::state::ImageRecord image;
  ASSERT_OK_AND_ASSIGN(const std::string bytes, images.Get(id));
  ASSERT_TRUE(image.ParseFromString(bytes));
  image.set_boot_id("the boot before");
  ASSERT_OK(images.Put(id, image.SerializeAsString()));
  for (int i = 1; i < image.chain_ids_size(); ++i) {  // The lowest is busybox's too.
    crisp::state::LayerRecord layer;
    ASSERT_OK_AND_ASSIGN(const std::string record, layers.Get(image.chain_ids(i)));
    ASSERT_TRUE(layer.ParseFromString(record));
    layer.set_boot_id("the boot before");
    ASSERT_OK(layers.Put(image.chain_ids(i), layer.SerializeAsString()));
    const std::string file =
        Root(base::StrCat("layers/", image.chain_ids(i), "/data", i - 1, "/file0"));
    ASSERT_EQ(truncate(file.c_str(), 0), 0) << file;
  }
  ASSERT_OK(daemon().Start());
  ASSERT_OK_AND_ASSIGN(const cri::ImageStatusResponse status, ImageStatus(many()));
  EXPECT_FALSE(status.has_image());
  ExpectWhole();
  EXPECT_OK(PullFull(many()));
  ExpectWhole();
}

}  // namespace
}  // namespace test
