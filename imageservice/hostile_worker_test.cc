// The image service against pull workers whose network process or parser was taken over. Whatever
// they say or do, another image, the rest of the host and the daemon stay as they are.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/files.h"
#include "base/sha.h"
#include "base/strings.h"
#include "imageservice/image_service.h"
#include "imageservice/testing/eventually.h"
#include "imageservice/testing/temp_directory.h"

namespace imageservice {
namespace {

using testing::Eventually;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Everything that can be seen of a tree, by path. A change of anything changes a ctime.
std::map<std::string, std::string> Snapshot(const std::string& root) {
  std::map<std::string, std::string> snapshot;
  std::vector<std::string> paths = {root};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    paths.push_back(entry.path());
  }
  for (const std::string& path : paths) {
    struct stat info = {};
    EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
    snapshot[path] = base::StrCat(
        info.st_ino, " ", info.st_mode, " ", info.st_uid, ":", info.st_gid, " ", info.st_size, " ",
        info.st_ctim.tv_sec, ".", info.st_ctim.tv_nsec, " ",
        S_ISREG(info.st_mode) ? base::Sha256Hex(base::ReadFile(path).value_or("?")) : "");
  }
  return snapshot;
}

class HostileWorkerTest : public ::testing::Test {
 protected:
  HostileWorkerTest() : launcher_("", "") {}

  void SetUp() override {
    if (geteuid() != 0) {
      GTEST_SKIP() << "SKIP: root";
    }
    MakeOutside();
    Open();
    service_->ReleaseUnused();
    const absl::Status pulled = Pull("q.io/victim:ab.honest");
    ASSERT_TRUE(pulled.ok()) << pulled;
    for (const std::string& layer : Names("layers")) {
      victims_.push_back(base::StrCat(directory_.path(), "/root/layers/", layer));
      before_.merge(Snapshot(victims_.back()));
    }
    ASSERT_EQ(victims_.size(), 2u);
    status_before_ = StatusOf("q.io/victim:ab.honest");
    outside_before_ = Snapshot(outside_.path());
  }

  void Open() {
    ImageConfig config;
    config.root = directory_ / "root";
    config.run_root = directory_ / "run";
    config.worker_path = CRISP_HOSTILE_PULL_WORKER;
    config.worker_environment = {"OUTSIDE=" + outside_.path(), "STORE=" + config.root,
                                 base::StrCat("DAEMON=", getpid()),
                                 "ASAN_OPTIONS=detect_leaks=0:handle_abort=0"};
    config.limits.max_layer_bytes = 1 << 20;
    auto service = ImageService::Open(config, &launcher_);
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }

  void TearDown() override {
    if (service_ == nullptr) {
      return;
    }
    EXPECT_TRUE(Eventually([&] { return Processes() == 0; })) << Processes() << " are left";
    EXPECT_TRUE(Eventually([&] { return Names("staging").empty(); }));
    EXPECT_TRUE(Eventually([&] { return Names("trash").empty(); }));
    std::map<std::string, std::string> after;
    for (const std::string& victim : victims_) {
      after.merge(Snapshot(victim));
    }
    EXPECT_EQ(after, before_);
    EXPECT_EQ(Snapshot(outside_.path()), outside_before_);
    char byte = 0;
    EXPECT_LT(recv(socket_.get(), &byte, 1, MSG_DONTWAIT), 0) << "somebody sent to the socket";
    EXPECT_EQ(StatusOf("q.io/victim:ab.honest"), status_before_);
    const absl::Status next = Pull("q.io/next:abd.honest");
    EXPECT_TRUE(next.ok()) << next;
    // The next life reads the records.
    service_.reset();
    Open();
    EXPECT_THAT(service_->problems(), IsEmpty());
    EXPECT_EQ(StatusOf("q.io/victim:ab.honest"), status_before_);
  }

  void MakeOutside() {
    ASSERT_TRUE(base::ReplaceFile(outside_ / "file", "x", 0600, base::Durability::kVolatile).ok());
    ASSERT_TRUE(base::MakeDirectories(outside_ / "inner", 0700).ok());
    socket_.Reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, (outside_ / "socket").c_str(), sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }

  absl::Status Pull(const std::string& name, absl::Duration limit = absl::Seconds(60)) {
    cri::PullImageRequest request;
    request.mutable_image()->set_image(name);
    return service_->PullImage(base::Context().WithTimeout(limit), request).status();
  }
  std::string StatusOf(const std::string& name) {
    cri::ImageStatusRequest request;
    request.mutable_image()->set_image(name);
    request.set_verbose(true);
    const auto status = service_->ImageStatus(base::Context(), request);
    return status.ok() ? status->SerializeAsString() : status.status().ToString();
  }
  std::vector<std::string> Names(const std::string& folder) const {
    return base::ListDirectory(directory_ / ("root/" + folder)).value();
  }
  // The path of a layer that is not the victim's; empty if there is none.
  std::string NewLayer() const {
    for (const std::string& name : Names("layers")) {
      const std::string path = base::StrCat(directory_.path(), "/root/layers/", name);
      if (std::find(victims_.begin(), victims_.end(), path) == victims_.end()) {
        return path;
      }
    }
    return "";
  }

  // How many processes of our workers there are.
  int Processes() const {
    int count = 0;
    for (const std::string& process :
         base::ListDirectory("/proc").value_or(std::vector<std::string>())) {
      const auto environment = base::ReadFile(base::StrCat("/proc/", process, "/environ"));
      const bool is_ours =
          environment.ok() && environment->find("OUTSIDE=" + outside_.path()) != std::string::npos;
      count += is_ours ? 1 : 0;
    }
    return count;
  }

  testing::TempDirectory directory_;
  testing::TempDirectory outside_;
  base::UniqueFd socket_;
  base::Launcher launcher_;
  std::unique_ptr<ImageService> service_;
  std::vector<std::string> victims_;  // Paths of the layers of an image that was here before.
  std::map<std::string, std::string> before_;
  std::map<std::string, std::string> outside_before_;
  std::string status_before_;
};

// --- the network process -------------------------------------------------------------------------

TEST_F(HostileWorkerTest, CannotLieInDocuments) {
  for (const char* lie : {"lie-manifest-digest", "lie-image-id", "lie-config", "lie-config-and-id",
                          "lie-index-digest", "lie-unlisted", "lie-endpoint"}) {
    const absl::Status status = Pull(base::StrCat("q.io/evil:ac.", lie));
    EXPECT_TRUE(absl::IsInternal(status)) << lie << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("broke the protocol")) << lie;
    EXPECT_EQ(NewLayer(), "") << lie;
  }
}

TEST_F(HostileWorkerTest, CannotLieAboutWhichLayersThereAre) {
  for (const char* lie : {"lie-chain-id", "lie-diff-id", "lie-parent", "lie-index", "lie-index-0",
                          "ask-too-much", "done-at-once", "missing-layer"}) {
    const absl::Status status = Pull(base::StrCat("q.io/evil:acd.", lie));
    EXPECT_TRUE(absl::IsInternal(status)) << lie << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("broke the protocol")) << lie;
  }
}

TEST_F(HostileWorkerTest, CannotLieAboutALayersContent) {
  for (const auto& [lie, message] :
       std::map<std::string, std::string>{{"other-content", "another content than the config's"},
                                          {"no-verdict", "a layer without a verdict"},
                                          {"forged-verdict", "another content than the config's"},
                                          {"swap", "another content than the config's"},
                                          {"twice", "a layer nobody asked for"},
                                          {"for-another", "a layer nobody asked for"},
                                          {"wrong-index", "a layer nobody asked for"},
                                          {"folder-climbs", "no number"},
                                          {"folder-absolute", "no number"},
                                          {"folder-of-another", "no number"},
                                          {"climbing-order", "a layer without a verdict"},
                                          {"long-order", "a layer without a verdict"},
                                          {"taken-order", "a layer without a verdict"}}) {
    const absl::Status status = Pull(base::StrCat("q.io/evil:acd.", lie));
    EXPECT_TRUE(absl::IsInternal(status)) << lie << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << lie;
  }
  EXPECT_EQ(NewLayer(), "") << "nothing it said was believed";
  ASSERT_TRUE(Pull("q.io/good:acd.honest").ok());
  EXPECT_EQ(base::ReadFile(NewLayer() + "/content").value().substr(0, 6), "layer ");
}

// A file of an artifact is what its name and its content say, and neither is the network process's
// to choose.
TEST_F(HostileWorkerTest, CannotLieAboutAnArtifact) {
  for (const auto& [lie, message] : std::map<std::string, std::string>{
           {"artifact-other-content", "another content"},
           {"artifact-other-name", "another content"},
           {"artifact-other-algorithm", "another content"},
           {"artifact-as-archive", "another content"},
           {"archive-as-file", "another content"},
           {"artifact-climbing-name", "a layer without a verdict"},
           {"artifact-absolute-name", "a layer without a verdict"},
           {"artifact-wild-digest", "a layer without a verdict"},
           {"artifact-lie-id", "a config that is not the image's"},
           {"artifact-lie-parent", "a layer that is not the config's"}}) {
    const absl::Status status = Pull(base::StrCat("q.io/evil:cd.", lie));
    EXPECT_TRUE(absl::IsInternal(status)) << lie << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << lie;
    EXPECT_EQ(NewLayer(), "") << lie;
  }
  ASSERT_TRUE(Pull("q.io/good:c.artifact-honest").ok());
  EXPECT_EQ(base::ReadFile(NewLayer() + "/c").value(), "layer c");
}

TEST_F(HostileWorkerTest, CannotChangeAFolderAfterItsVerdict) {
  const absl::Status status = Pull("q.io/evil:ac.replace");
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(base::ReadFile(NewLayer() + "/content").value(), "layer c");
  EXPECT_THAT(base::ListDirectory(NewLayer()).value(), ::testing::ElementsAre("content"));
}

TEST_F(HostileWorkerTest, TheNetworkProcessHasNoWayOut) {
  const absl::Status status = Pull("q.io/evil:ac.break-out");
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(HostileWorkerTest, MayTalkNonsense) {
  for (const char* nonsense : {"deep-frame", "garbage-frame", "endless-frame"}) {
    const absl::Status status = Pull(base::StrCat("q.io/evil:ac.", nonsense));
    EXPECT_TRUE(absl::IsInternal(status)) << nonsense << status;
  }
  for (const char* harmless : {"absurd-progress", "lie-size", "talks-after-done"}) {
    const absl::Status status = Pull(base::StrCat("q.io/evil:acd.", harmless));
    EXPECT_TRUE(status.ok()) << harmless << status;
  }
}

TEST_F(HostileWorkerTest, MayTakeForEver) {
  for (const char* bore : {"silence", "half-frame", "flood"}) {
    const absl::Status status = Pull(base::StrCat("q.io/evil:ac.", bore), absl::Milliseconds(300));
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << bore << status;
  }
}

TEST_F(HostileWorkerTest, StartsABoundedNumberOfProcesses) {
  absl::Status status;
  std::atomic<bool> is_over = false;
  std::thread pull([&] {
    status = Pull("q.io/evil:ac.crowd", absl::Seconds(2));
    is_over = true;
  });
  int most = 0;
  while (!is_over) {
    most = std::max(most, Processes());
  }
  pull.join();
  // Three layers at a time and four to spare, with two processes each, the worker and the forker.
  EXPECT_EQ(most, 16);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
}

// --- a parser
// -------------------------------------------------------------------------------------

TEST_F(HostileWorkerTest, AParserHasNoWayOut) {
  const absl::Status status = Pull("q.io/evil:az.parser_break-out");
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(base::ReadFile(NewLayer() + "/report").value(), "");
}

TEST_F(HostileWorkerTest, AParserCannotDeferWhatLeavesItsFolder) {
  for (const char* operation : {"opaque", "copy", "link"}) {
    for (const char* path : {"DOTDOT", "ABSOLUTE", "EMPTY"}) {
      const absl::Status status =
          Pull(base::StrCat("q.io/evil:az.parser_defer_", operation, "_", path));
      EXPECT_TRUE(absl::IsInternal(status)) << operation << path << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("not a clean path"));
    }
  }
  for (const char* operation : {"opaque", "copy", "from", "to"}) {
    const absl::Status status =
        Pull(base::StrCat("q.io/evil:az.parser_defer-link_", operation, "_OUTSIDE"));
    EXPECT_FALSE(status.ok()) << operation;
  }
  EXPECT_EQ(NewLayer(), "");
}

TEST_F(HostileWorkerTest, AParsersNonsenseFailsItsPullOnly) {
  const std::string fake = std::string(64, 'a');
  for (const auto& [attack, message] :
       std::map<std::string, std::string>{{"sizes", "larger than can be"},
                                          {"garbage", "broke the protocol"},
                                          {"claims-to-be-verified_" + fake, "no layer"},
                                          {"claims-to-be-verified_" + fake + "_fails", ""},
                                          {"talks", "says too much"},
                                          {"lingers", "parser died"},
                                          {"crashes", "parser died"}}) {
    const absl::Status status = Pull(base::StrCat("q.io/evil:az.parser_", attack));
    EXPECT_FALSE(status.ok()) << attack;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << attack << status;
  }
  EXPECT_EQ(NewLayer(), "");
}

TEST_F(HostileWorkerTest, AParsersMemoryIsLimited) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "SKIP: a build without sanitizers";
#endif
  const absl::Status status = Pull("q.io/evil:az.parser_eats-memory");
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

}  // namespace
}  // namespace imageservice
