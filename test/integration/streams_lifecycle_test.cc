// crisp-stream as the daemon sees it: started at the first URL, found again, swept, retired.
#include <signal.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

using base::StrCat;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

class StreamsLifecycleTest : public IntegrationTest {
 protected:
  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
    ASSERT_OK_AND_ASSIGN(container_, RunContainer(pod_, "main", "exec sleep 4321"));
  }

  absl::StatusOr<std::string> ExecUrl(
      const std::function<void(cri::ExecRequest*)>& change = nullptr) const {
    cri::ExecRequest request;
    request.set_container_id(container_);
    request.add_cmd("true");
    request.set_stdout(true);
    if (change) change(&request);
    ASSIGN_OR_RETURN(const cri::ExecResponse response, client().Call(&RuntimeStub::Exec, request));
    return response.url();
  }
  // The processes of crisp-stream, over all instances.
  std::vector<pid_t> Servers() const {
    std::vector<pid_t> found;
    for (const pid_t pid : base::CgroupProcesses(StrCat(environment().Get("CGROUP"), "/streams"))) {
      if (base::ReadFile(StrCat("/proc/", pid, "/comm")).value_or("") == "crisp-stream\n") {
        found.push_back(pid);
      }
    }
    return found;
  }
  std::vector<std::string> Folders() const {
    return base::ListDirectory(environment().Get("RUN_ROOT") + "/streams")
        .value_or(std::vector<std::string>{"?"});
  }
  static std::string HostOf(const std::string& url) { return url.substr(0, url.find("/exec/")); }

  std::string pod_;
  std::string container_;
};

TEST_F(StreamsLifecycleTest, TheFirstUrlStartsItAndTheSecondUsesIt) {
  EXPECT_THAT(Servers(), IsEmpty());
  EXPECT_THAT(Folders(), IsEmpty());
  ASSERT_OK_AND_ASSIGN(const std::string first, ExecUrl());
  EXPECT_THAT(first, StartsWith("http://127.0.0.1:"));
  EXPECT_THAT(Servers(), SizeIs(1));
  ASSERT_OK_AND_ASSIGN(const std::string second, ExecUrl());
  EXPECT_EQ(HostOf(first), HostOf(second));
  EXPECT_NE(first, second);
  EXPECT_THAT(Servers(), SizeIs(1));
  EXPECT_THAT(Folders(), SizeIs(1));
}

TEST_F(StreamsLifecycleTest, RequestsAtTheSameTimeStartOne) {
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] { EXPECT_OK(ExecUrl()); });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(Servers(), SizeIs(1));
}

TEST_F(StreamsLifecycleTest, ItOutlivesTheDaemonWhichFindsItAgain) {
  ASSERT_OK_AND_ASSIGN(const std::string before, ExecUrl());
  const std::vector<pid_t> servers = Servers();
  ASSERT_THAT(servers, SizeIs(1));
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK_AND_ASSIGN(const std::string after, ExecUrl());
  EXPECT_EQ(HostOf(before), HostOf(after));
  EXPECT_EQ(Servers(), servers);
  ASSERT_OK(daemon().Stop());
  EXPECT_EQ(Servers(), servers);
  ASSERT_OK(daemon().Start());
  ASSERT_OK(ExecUrl());
  EXPECT_EQ(Servers(), servers);
}

TEST_F(StreamsLifecycleTest, OneThatWasKilledIsSweptAndReplaced) {
  ASSERT_OK(ExecUrl());
  const std::vector<pid_t> servers = Servers();
  const std::vector<std::string> folders = Folders();
  ASSERT_THAT(servers, SizeIs(1));
  ASSERT_EQ(kill(servers[0], SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return Folders().empty(); }));
  ASSERT_OK(ExecUrl());
  EXPECT_THAT(Servers(), SizeIs(1));
  EXPECT_NE(Servers(), servers);
  // At once after its death a request may come before anybody has noticed.
  const std::vector<pid_t> next = Servers();
  ASSERT_EQ(kill(next[0], SIGKILL), 0);
  ASSERT_OK(ExecUrl());
  EXPECT_TRUE(Eventually([&] { return Folders().size() == 1; }));
}

TEST_F(StreamsLifecycleTest, OneThatDiedWithTheDaemonIsSweptAtTheStart) {
  ASSERT_OK(ExecUrl());
  const std::vector<pid_t> servers = Servers();
  ASSERT_THAT(servers, SizeIs(1));
  ASSERT_OK(daemon().Crash());
  ASSERT_EQ(kill(servers[0], SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return Servers().empty(); }));
  EXPECT_THAT(Folders(), SizeIs(1));
  ASSERT_OK(daemon().Start());
  EXPECT_THAT(Folders(), IsEmpty());
  ASSERT_OK(ExecUrl());
}

TEST_F(StreamsLifecycleTest, WithOtherSettingsTheOldOneEnds) {
  ASSERT_OK_AND_ASSIGN(const std::string before, ExecUrl());
  const std::vector<pid_t> servers = Servers();
  ASSERT_OK(daemon().Stop());
  ASSERT_OK(environment().EditConfig("[crisp.api]", "[crisp.api]\nstream_max_urls = 7"));
  ASSERT_OK(daemon().Start());
  EXPECT_TRUE(Eventually([&] { return Servers().empty() && Folders().empty(); }));
  for (int i = 0; i < 7; ++i) {
    ASSERT_OK(ExecUrl());
  }
  const auto refused = ExecUrl();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("stream_max_urls"));
  EXPECT_NE(Servers(), servers);
}

}  // namespace
}  // namespace test
