// Attach sessions of crisp-stream against real monitors.
#include <csignal>
#include <cstdio>
#include <memory>
#include <vector>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "runtimeservice/oci/container_fixture.h"
#include "runtimeservice/streaming/attach_session.h"
#include "runtimeservice/streaming/test_command_client.h"

namespace runtimeservice {
namespace {

using ::base::StrCat;
using ::streaming::Task;
using ::streaming::TestCommandClient;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class AttachSessionTest : public ContainerFixture {
 protected:
  // One attach, from its start to its end.
  struct Attached {
    Attached(boost::asio::io_context& loop, crisp::stream::AttachSession request)
        : session(std::move(request)), client(loop), attach(loop, session, client, kStalled) {
      streaming::Spawn(loop, attach.Run(), [this] { ended = true; });
    }

    static constexpr absl::Duration kStalled = absl::Milliseconds(300);
    const crisp::stream::AttachSession session;
    TestCommandClient client;
    streaming::AttachSession attach;
    bool ended = false;
  };

  void SetUp() override {
    ContainerFixture::SetUp();
    std::signal(SIGPIPE, SIG_IGN);
    request_.set_container_id("c1");
    request_.set_monitor_socket(state_dir() + "/monitor.sock");
    request_.set_stdout(true);
    request_.set_stderr(true);
  }
  // A container that feeds on an attached client.
  void RunWithInput(const std::string& script, bool once) {
    MonitorSpec spec = PrepareScript(script);
    spec.has_stdin = true;
    spec.stdin_once = once;
    ASSERT_NO_FATAL_FAILURE(ContainerFixture::Run(spec));
    request_.set_stdin(true);
    request_.set_stdin_once(once);
  }
  Attached& Attach() {
    attached_.push_back(std::make_unique<Attached>(loop_, request_));
    return *attached_.back();
  }
  // Runs the loop until all attaches have ended, and `test` if there is one.
  void RunAll(Task<> test = Task<>()) {
    if (test.valid()) {
      streaming::Spawn(loop_, std::move(test));
    }
    loop_.run_for(std::chrono::seconds(60));
    for (const auto& attached : attached_) {
      EXPECT_TRUE(attached->ended) << "a session does not end";
    }
  }
  void Go() {
    ASSERT_TRUE(
        base::ReplaceFile(directory() + "/bundle/rootfs/go", "", 0600, base::Durability::kVolatile)
            .ok());
  }
  static constexpr char kWaitForGo[] = "while ! test -e /go; do sleep 0.02; done; ";
  // Tells each client that it is attached.
  static constexpr char kTickUntilGo[] =
      "while ! test -e /go; do echo tick; echo tick >&2; sleep 0.02; done; ";

  boost::asio::io_context loop_;
  crisp::stream::AttachSession request_;
  std::vector<std::unique_ptr<Attached>> attached_;
};

TEST_F(AttachSessionTest, OutputArrivesAndTheContainersEndIsSuccess) {
  ASSERT_NO_FATAL_FAILURE(
      ContainerFixture::Run(PrepareScript(StrCat(kTickUntilGo, "echo out; echo err >&2; exit 3"))));
  Attached& both = Attach();
  request_.set_stdout(false);
  Attached& only_err = Attach();
  const auto test = [&]() -> Task<> {
    co_await both.client.Until([&] { return !both.client.out.empty(); });
    co_await only_err.client.Until([&] { return !only_err.client.err.empty(); });
    Go();
  };
  RunAll(test());
  EXPECT_THAT(both.client.out, EndsWith("tick\nout\n"));
  EXPECT_THAT(both.client.err, EndsWith("tick\nerr\n"));
  ASSERT_TRUE(both.client.result.has_value());
  EXPECT_TRUE(both.client.result->status.ok()) << both.client.result->status;
  EXPECT_EQ(both.client.result->exit_code, 0);
  EXPECT_EQ(only_err.client.out, "");
  EXPECT_THAT(only_err.client.err, EndsWith("tick\nerr\n"));
}

TEST_F(AttachSessionTest, TheClientsEndIsTheContainersEndOfInputOnce) {
  ASSERT_NO_FATAL_FAILURE(RunWithInput("cat; echo end", true));
  Attached& attached = Attach();
  const std::string bytes(1 << 20, 'x');
  attached.client.SendStdin(bytes);
  attached.client.EndStdin();
  RunAll();
  EXPECT_TRUE(attached.client.out == bytes + "end\n");
  EXPECT_TRUE(attached.client.result.has_value() && attached.client.result->status.ok());
}

TEST_F(AttachSessionTest, TheClientsEndEndsTheSessionWhenTheInputStaysOpen) {
  ASSERT_NO_FATAL_FAILURE(RunWithInput("while read line; do echo got $line; done", false));
  for (const char* word : {"one", "two"}) {
    Attached& attached = Attach();
    attached.client.SendStdin(StrCat(word, "\n"));
    attached.client.EndStdin();
    RunAll();
    loop_.restart();
    EXPECT_EQ(attached.client.out, StrCat("got ", word, "\n"));
    EXPECT_TRUE(attached.client.result.has_value() && attached.client.result->status.ok());
  }
  EXPECT_TRUE(connection().RefreshState(Patience()).ok());
}

TEST_F(AttachSessionTest, AClientWithoutInputStaysUntilTheContainersEnd) {
  ASSERT_NO_FATAL_FAILURE(RunWithInput("read line; echo got $line", true));
  request_.set_stdin(false);
  Attached& watcher = Attach();
  request_.set_stdin(true);
  Attached& writer = Attach();
  const auto test = [&]() -> Task<> {
    writer.client.SendStdin("word\n");
    co_await writer.client.Until([&] { return writer.client.result.has_value(); });
  };
  RunAll(test());
  EXPECT_EQ(watcher.client.out, "got word\n");
  EXPECT_EQ(writer.client.out, "got word\n");
}

TEST_F(AttachSessionTest, InputForAContainerWithoutItIsDropped) {
  ASSERT_NO_FATAL_FAILURE(
      ContainerFixture::Run(PrepareScript(StrCat("cat; ", kWaitForGo, "echo end"))));
  request_.set_stdin(true);
  Attached& attached = Attach();
  attached.client.SendStdin(std::string(1 << 20, 'x'));
  attached.client.EndStdin();
  const auto test = [&]() -> Task<> {
    co_await attached.client.Until([&] { return attached.client.actions_done == 2; });
    Go();
  };
  RunAll(test());
  EXPECT_EQ(attached.client.out, "end\n");
}

TEST_F(AttachSessionTest, ASlowClientIsToldWhatItMissedAndHoldsNobodyUp) {
  ASSERT_NO_FATAL_FAILURE(ContainerFixture::Run(
      PrepareScript(StrCat(kTickUntilGo, "echo begin; seq 1 1000000; echo end"))));
  Attached& slow = Attach();
  slow.client.Stall(true);
  Attached& reader = Attach();
  const auto test = [&]() -> Task<> {
    co_await slow.client.Until([&] { return slow.client.writes_waiting == 1; });
    co_await reader.client.Until([&] { return !reader.client.out.empty(); });
    Go();
    co_await reader.client.Until([&] { return reader.client.out.ends_with("end\n"); });
    slow.client.Stall(false);
  };
  RunAll(test());
  EXPECT_TRUE(LogHas("stdout F 1000000"));
  const std::string& out = slow.client.out;
  const std::string& notes = slow.client.err;
  size_t skipped = 0;
  for (size_t at = 0; (at = notes.find("[crisp: ", at)) != std::string::npos; ++at) {
    size_t bytes = 0;
    EXPECT_EQ(std::sscanf(notes.c_str() + at, "[crisp: %zu bytes of output skipped: this", &bytes),
              1);
    skipped += bytes;
  }
  const size_t begin = out.find("begin\n");
  ASSERT_NE(begin, std::string::npos);
  EXPECT_THAT(out.substr(begin), StartsWith("begin\n1\n2\n3\n"));
  EXPECT_EQ(out.size() - begin + skipped, 6888896u + 6 + 4);
  EXPECT_GT(skipped, 4u << 20);
  EXPECT_GT(out.size(), 200u << 10);
  EXPECT_TRUE(slow.client.result.has_value() && slow.client.result->status.ok());
}

TEST_F(AttachSessionTest, AClientThatTakesNothingIsDroppedAfterTheContainersEnd) {
  ASSERT_NO_FATAL_FAILURE(
      ContainerFixture::Run(PrepareScript(StrCat(kTickUntilGo, "seq 1 100000; exit 2"))));
  Attached& stuck = Attach();
  stuck.client.Stall(true);
  const auto test = [&]() -> Task<> {
    co_await stuck.client.Until([&] { return stuck.client.writes_waiting == 1; });
    Go();
  };
  RunAll(test());
  EXPECT_TRUE(stuck.client.gone());
  EXPECT_FALSE(stuck.client.result.has_value());
  EXPECT_EQ(WaitForExit().code, 2);
}

TEST_F(AttachSessionTest, AClientThatLeavesIsDetached) {
  ASSERT_NO_FATAL_FAILURE(
      ContainerFixture::Run(PrepareScript("while :; do echo tick; sleep 0.01; done")));
  Attached& attached = Attach();
  const auto test = [&]() -> Task<> {
    co_await attached.client.Until([&] { return absl::StrContains(attached.client.out, "tick"); });
    attached.client.Vanish();
  };
  RunAll(test());
  EXPECT_TRUE(connection().RefreshState(Patience()).ok());
}

TEST_F(AttachSessionTest, AClientThatLeavesWhileItsInputWaitsIsDetached) {
  ASSERT_NO_FATAL_FAILURE(RunWithInput("sleep 1000", false));
  Attached& attached = Attach();
  attached.client.SendStdin(std::string(8 << 20, 'x'));
  const auto test = [&]() -> Task<> {
    co_await attached.client.Until([&] { return attached.client.delivering(); });
    // Whether its input waits by now or still flows, the session must end.
    streaming::Signal never(loop_);
    co_await never.WaitFor(absl::Milliseconds(50));
    EXPECT_EQ(attached.client.actions_done, 0u);
    attached.client.Vanish();
  };
  RunAll(test());
}

TEST_F(AttachSessionTest, TheThirteenthClientIsRefusedWithAReason) {
  ASSERT_NO_FATAL_FAILURE(ContainerFixture::Run(PrepareScript(StrCat(kWaitForGo, "exit 0"))));
  for (int i = 0; i < 13; ++i) {
    Attach();
  }
  const auto test = [&]() -> Task<> {
    TestCommandClient& last = attached_.back()->client;
    co_await last.Until([&] { return last.result.has_value(); });
    Go();
  };
  RunAll(test());
  const absl::Status refused = attached_.back()->client.result->status;
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(refused.ToString(), HasSubstr("attach to container c1: as many clients"));
  for (int i = 0; i < 12; ++i) {
    const std::optional<streaming::CommandResult>& result =
        attached_[static_cast<size_t>(i)]->client.result;
    EXPECT_TRUE(result.has_value() && result->status.ok()) << i;
  }
}

TEST_F(AttachSessionTest, AContainerThatHasEndedIsAnError) {
  ASSERT_NO_FATAL_FAILURE(ContainerFixture::Run(PrepareScript("exit 0")));
  WaitForExit();
  Attached& attached = Attach();
  RunAll();
  ASSERT_TRUE(attached.client.result.has_value());
  EXPECT_EQ(attached.client.result->status,
            absl::FailedPreconditionError("attach to container c1: it has ended"));
}

TEST_F(AttachSessionTest, AMonitorThatDiesIsAnError) {
  ASSERT_NO_FATAL_FAILURE(
      ContainerFixture::Run(PrepareScript("while :; do echo tick; sleep 0.01; done")));
  Attached& attached = Attach();
  const pid_t monitor = connection().state().monitor_pid;
  const auto test = [&]() -> Task<> {
    co_await attached.client.Until([&] { return absl::StrContains(attached.client.out, "tick"); });
    EXPECT_EQ(kill(monitor, SIGKILL), 0);
  };
  RunAll(test());
  ASSERT_TRUE(attached.client.result.has_value());
  EXPECT_TRUE(absl::IsUnavailable(attached.client.result->status))
      << attached.client.result->status;
}

TEST_F(AttachSessionTest, ATerminalTakesInputAndSizeAndOutlivesItsDetachedClients) {
  BundleOptions options;
  options.args = {"/bin/sh", "-c", "read line; echo got $line; stty size; read line; echo $line"};
  options.terminal = true;
  MonitorSpec spec = Prepare(options);
  spec.has_stdin = true;
  ASSERT_NO_FATAL_FAILURE(ContainerFixture::Run(spec));
  request_.set_tty(true);
  request_.set_stdin(true);
  request_.set_stderr(false);
  Attached& attached = Attach();
  attached.client.Resize(132, 43);
  attached.client.SendStdin("word\n");
  const auto first = [&]() -> Task<> {
    co_await attached.client.Until(
        [&] { return absl::StrContains(attached.client.out, "got word\r\n43 132\r\n"); });
    EXPECT_FALSE(attached.client.result.has_value());
    attached.client.EndStdin();
  };
  RunAll(first());
  EXPECT_TRUE(attached.client.result.has_value() && attached.client.result->status.ok());
  loop_.restart();
  Attached& other = Attach();
  other.client.SendStdin("last\n");
  RunAll();
  EXPECT_THAT(other.client.out, EndsWith("last\r\n"));
  EXPECT_TRUE(other.client.result.has_value() && other.client.result->status.ok());
}

}  // namespace
}  // namespace runtimeservice
