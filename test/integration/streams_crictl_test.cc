// Exec, attach and port-forward as crictl does them, with both of its transports.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/pod_server.h"
#include "test/integration/streams_fixture.h"

namespace test {
namespace {

using testing::HasSubstr;

class StreamsCrictlTest : public StreamsFixture, public testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    if (!base::Exists(SourcePath("build/critest/crictl"))) {
      GTEST_SKIP() << "SKIP: crictl (test/critest/run --build-only)";
    }
    StreamsFixture::SetUp();
  }
  // `verb` with the transport, then the rest.
  absl::StatusOr<base::CommandResult> Run(std::string_view verb, std::vector<std::string> rest,
                                          std::string_view input = "") const {
    rest.insert(rest.begin(), {std::string(verb), "--transport", GetParam()});
    return Crictl(rest, input);
  }
  // The same in a terminal, which script(1) makes; `input` is typed into it.
  absl::StatusOr<base::CommandResult> RunInTerminal(std::string_view verb,
                                                    const std::vector<std::string>& rest,
                                                    std::string_view input) const {
    std::string line = base::StrCat("stty rows 37 cols 91; ", SourcePath("build/critest/crictl"),
                                    " --config /dev/null -r unix://", environment().Get("SOCKET"),
                                    " ", verb, " --transport ", GetParam());
    for (const std::string& word : rest) {
      line += base::StrCat(" '", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
    }
    base::Command command;
    command.argv = {"/usr/bin/script", "-q", "-e", "-c", line, "/dev/null"};
    command.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm",
                   "SHELL=/bin/sh"};
    return base::RunCommand(base::Context::Detached(absl::Seconds(60)), command, input);
  }
};

TEST_P(StreamsCrictlTest, ExecGivesOutputsApartAndTheExitCode) {
  for (const int code : {0, 3, 137}) {
    ASSERT_OK_AND_ASSIGN(const base::CommandResult result,
                         Run("exec", {container(), "sh", "-c",
                                      base::StrCat("echo out; echo err >&2; exit ", code)}));
    EXPECT_EQ(result.out, "out\n");
    EXPECT_THAT(result.err, HasSubstr("err\n"));
    EXPECT_EQ(result.exit.code != 0, code != 0);
    if (code != 0) {
      EXPECT_THAT(result.err, HasSubstr(base::StrCat("exit code ", code)));
    }
  }
}

TEST_P(StreamsCrictlTest, ExecTakesInputFromAPipe) {
  TestBytes bytes(2);
  const std::string input(bytes.Next(3 << 20));
  ASSERT_OK_AND_ASSIGN(
      const base::CommandResult stored,
      Run("exec", {"-i", container(), "sh", "-c", "cat > /tmp/in; wc -c < /tmp/in"}, input));
  EXPECT_EQ(stored.out, "3145728\n") << stored.err;
  ASSERT_OK_AND_ASSIGN(const base::CommandResult sum,
                       Run("exec", {container(), "sha256sum", "/tmp/in"}));
  const std::string file = environment().Get("RUN") + "/in";
  ASSERT_OK(base::ReplaceFile(file, input, 0600, base::Durability::kVolatile));
  ASSERT_OK_AND_ASSIGN(const std::string expected, RunProgram({"sha256sum", file}));
  EXPECT_EQ(sum.out.substr(0, 64), expected.substr(0, 64));
}

TEST_P(StreamsCrictlTest, ExecHasATerminalOfTheRightSize) {
  ASSERT_OK_AND_ASSIGN(const base::CommandResult result,
                       RunInTerminal("exec",
                                     {"-i", "-t", container(), "sh", "-c",
                                      "tty; stty size; read x; echo got:$x; exit 4"},
                                     "typed\n"));
  EXPECT_THAT(result.out, HasSubstr("/dev/pts/"));
  EXPECT_THAT(result.out, HasSubstr("37 91"));
  EXPECT_THAT(result.out, HasSubstr("got:typed"));
  EXPECT_NE(result.exit.code, 0);
}

TEST_P(StreamsCrictlTest, AttachReachesStdinOnce) {
  cri::CreateContainerRequest request = ContainerRequest(pod(), "once", "cat; echo done");
  request.mutable_config()->set_stdin(true);
  request.mutable_config()->set_stdin_once(true);
  ASSERT_OK_AND_ASSIGN(const std::string once, Create(request));
  ASSERT_OK(Start(once));
  ASSERT_OK_AND_ASSIGN(const base::CommandResult result, Run("attach", {"-i", once}, "hello\n"));
  EXPECT_EQ(result.out, "hello\ndone\n") << result.err;
  ASSERT_OK_AND_ASSIGN(const cri::ContainerStatus status, WaitForExit(once));
  EXPECT_EQ(status.exit_code(), 0);
}

TEST_P(StreamsCrictlTest, PortForwardServesALocalPort) {
  ASSERT_OK_AND_ASSIGN(const auto source, PodServer::Start(NetworkNamespace(pod()), "127.0.0.1",
                                                           PodServer::Kind::kSource));
  base::Command command;
  command.argv = {SourcePath("build/critest/crictl"),
                  "--config",
                  "/dev/null",
                  "-r",
                  base::StrCat("unix://", environment().Get("SOCKET")),
                  "port-forward",
                  "--transport",
                  GetParam(),
                  pod(),
                  base::StrCat(":", source->port())};
  command.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"};
  const std::string said = environment().Get("RUN") + "/forward.out";
  ASSERT_OK_AND_ASSIGN(const base::UniqueFd out, base::Open(said, O_RDWR | O_CREAT | O_TRUNC));
  command.stdout_fd = out.get();
  command.stderr_fd = out.get();
  ASSERT_OK_AND_ASSIGN(base::Subprocess crictl, base::Subprocess::Spawn(command));
  // "Forwarding from 127.0.0.1:PORT -> …".
  std::string address;
  ASSERT_TRUE(Eventually([&] {
    const std::string text = base::ReadFile(said).value_or("");
    const size_t at = text.find("127.0.0.1:");
    const size_t end = text.find(" ->", at);
    if (at == text.npos || end == text.npos) return false;
    address = text.substr(at, end - at);
    return true;
  })) << base::ReadFile(said).value_or("");
  ASSERT_OK_AND_ASSIGN(auto wire, ConnectWire(base::StrCat("http://", address)));
  ASSERT_OK(wire->Write("1000000\n", ""));
  std::string text;
  char buffer[65536];
  while (text.size() < 1000000) {
    ASSERT_OK_AND_ASSIGN(const size_t count, wire->Read(buffer, sizeof(buffer), kAnswer));
    ASSERT_GT(count, 0u);
    text.append(buffer, count);
  }
  TestBytes bytes(1);
  std::string expected;
  while (expected.size() < text.size()) expected += bytes.Next(256 << 10);
  EXPECT_TRUE(text == expected.substr(0, text.size()));
}

INSTANTIATE_TEST_SUITE_P(All, StreamsCrictlTest, testing::Values("spdy", "websocket"),
                         [](const auto& parameter) { return parameter.param; });

}  // namespace
}  // namespace test
