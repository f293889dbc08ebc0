// Whole pulls, of which one process or another is killed at a random moment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "imageservice/image_service.h"
#include "imageservice/pull_plan.h"
#include "imageservice/testing/eventually.h"
#include "imageservice/testing/temp_directory.h"
#include "imageservice/worker/test_archive.h"
#include "imageservice/worker/test_registry.h"

namespace imageservice {
namespace {

using ::testing::IsEmpty;
using worker::TarEntry;
using worker::TestLayout;
using worker::TestRegistry;

// A process of a worker by what it is, which is told by its ancestors.
enum class Role { kNetwork, kForker, kVerifier, kParser };

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
};

// The processes whose environment has `mark`.
std::vector<Process> Marked(const std::string& mark) {
  std::vector<Process> found;
  for (const std::string& name :
       base::ListDirectory("/proc").value_or(std::vector<std::string>())) {
    const auto environment = base::ReadFile(base::StrCat("/proc/", name, "/environ"));
    if (!environment.ok() || environment->find(mark) == std::string::npos) {
      continue;
    }
    const std::string stat = base::ReadFile(base::StrCat("/proc/", name, "/stat")).value_or("");
    std::istringstream rest(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
    std::string state;
    Process process;
    rest >> state >> process.parent;
    process.pid = std::stoi(name);
    if (state != "Z") {
      found.push_back(process);
    }
  }
  return found;
}

// What is pulled.
enum class Kind { kImage, kArtifact };

class PullKillTest : public ::testing::TestWithParam<Kind> {
 protected:
  PullKillTest() : launcher_("", "") {}

  void SetUp() override {
    if (!base::Exists("/usr/bin/docker-registry") || !base::Exists("/usr/bin/skopeo")) {
      GTEST_SKIP() << "SKIP: docker-registry and skopeo";
    }
    auto registry = TestRegistry::Start("");
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    PushImage();
    ImageConfig config;
    config.root = directory_ / "root";
    config.run_root = directory_ / "run";
    config.worker_path = CRISP_PULL_BINARY;
    config.worker_environment = {Mark(), "ASAN_OPTIONS=detect_leaks=0"};
    config.registries.insecure_registries = {registry_->host()};
    auto service = ImageService::Open(config, &launcher_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
    service_->ReleaseUnused();
  }

  std::string Mark() const { return "TEST_DIRECTORY=" + directory_.path(); }
  std::string Name() const { return registry_->host() + "/app:1"; }

  // Three layers or files that compress badly, so that each takes a while.
  void PushImage() {
    std::minstd_rand random(7);
    std::vector<TestLayout::Layer> layers;
    std::vector<TestLayout::File> files;
    for (int i = 0; i < 3; ++i) {
      std::string content(8 << 20, '\0');
      for (char& c : content) {
        c = static_cast<char>(random() >> 8);
      }
      const std::string name = base::StrCat("f", i);
      layers.push_back(worker::GzipLayer({{.name = name, .content = content}}));
      files.push_back({name, content});
    }
    TestLayout layout(directory_ / "layout");
    layout.Finish(GetParam() == Kind::kArtifact
                      ? layout.AddArtifact(files)
                      : layout.AddImage(layers, "linux", HostPlatform().architecture));
    const absl::Status pushed = registry_->Push(directory_ / "layout", "app:1");
    ASSERT_TRUE(pushed.ok()) << pushed;
  }

  absl::Status Pull() {
    cri::PullImageRequest request;
    request.mutable_image()->set_image(Name());
    return service_->PullImage(base::Context().WithTimeout(absl::Seconds(60)), request).status();
  }

  void Remove() {
    cri::RemoveImageRequest request;
    request.mutable_image()->set_image(Name());
    EXPECT_TRUE(
        service_->RemoveImage(base::Context().WithTimeout(absl::Seconds(60)), request).ok());
  }

  // A process of the role, if there is one now.
  pid_t Find(Role role) const {
    std::map<pid_t, int> depths;
    const std::vector<Process> processes = Marked(Mark());
    // Children have been forked after their parents, but numbers may wrap: so often as deep.
    for (int i = 0; i < 4; ++i) {
      for (const Process& process : processes) {
        if (process.parent == getpid()) {
          depths[process.pid] = 0;
        } else if (depths.contains(process.parent)) {
          depths[process.pid] = depths[process.parent] + 1;
        }
      }
    }
    for (const auto& [pid, depth] : depths) {
      if (depth == static_cast<int>(role)) {
        return pid;
      }
    }
    return 0;
  }

  std::vector<std::string> Names(const std::string& folder) const {
    return base::ListDirectory(directory_ / ("root/" + folder)).value();
  }

  testing::TempDirectory directory_;
  base::Launcher launcher_;
  std::unique_ptr<TestRegistry> registry_;
  std::unique_ptr<ImageService> service_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, PullKillTest, ::testing::Values(Kind::kImage, Kind::kArtifact),
                         [](const auto& test) {
                           return test.param == Kind::kImage ? "Image" : "Artifact";
                         });

TEST_P(PullKillTest, AnyProcessMayDieAtAnyMoment) {
  std::mt19937 random(std::random_device{}());
  std::map<Role, int> failed;
  for (int round = 0; round < 48; ++round) {
    const Role role = static_cast<Role>(round % 4);
    absl::Status status = absl::UnknownError("still running");
    std::thread pull([&] { status = Pull(); });
    pid_t victim = 0;
    testing::Eventually([&] { return (victim = Find(role)) != 0 || Names("layers").size() == 3; });
    const absl::Time moment = absl::Now() + absl::Microseconds(random() % 40'000);
    while (absl::Now() < moment) {
      sched_yield();
    }
    if (victim != 0) {
      kill(victim, SIGKILL);
    }
    pull.join();
    if (status.ok()) {
      Remove();
    } else {
      ++failed[role];
      EXPECT_TRUE(absl::IsInternal(status) || absl::IsUnavailable(status)) << status;
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(Name()));
      EXPECT_THAT(std::string(status.message()),
                  ::testing::ContainsRegex("died|ended without a word"));
    }
    EXPECT_TRUE(testing::Eventually([&] { return Marked(Mark()).empty(); }));
    EXPECT_TRUE(testing::Eventually([&] { return Names("staging").empty(); }));
    EXPECT_TRUE(testing::Eventually([&] { return Names("trash").empty(); }));
    EXPECT_THAT(Names("layers"), IsEmpty()) << "nothing refers to them";
  }
  for (const Role role : {Role::kNetwork, Role::kForker, Role::kVerifier, Role::kParser}) {
    EXPECT_GT(failed[role], 0) << static_cast<int>(role) << " was never killed in time";
  }
  EXPECT_TRUE(Pull().ok());
}

}  // namespace
}  // namespace imageservice
