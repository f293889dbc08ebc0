// crisp-stream as the daemon sees it: started at the first URL, found again, swept, retired.
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/integration/stream_servers.h"

namespace test {
namespace {

using base::StrCat;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

// A socket that listens on a free port of 127.0.0.1, as another program may.
absl::StatusOr<base::UniqueFd> ListenOnLoopback(int* port) {
  base::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return base::ErrnoStatus(errno, "listen");
  }
  *port = ntohs(address.sin_port);
  return listener;
}

TEST_F(StreamServersTest, TheFirstUrlStartsItAndTheSecondUsesIt) {
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

TEST_F(StreamServersTest, RequestsAtTheSameTimeStartOne) {
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] { EXPECT_OK(ExecUrl()); });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(Servers(), SizeIs(1));
}

TEST_F(StreamServersTest, ItOutlivesTheDaemonWhichFindsItAgain) {
  ASSERT_OK_AND_ASSIGN(const std::string before, ExecUrl());
  const std::vector<pid_t> servers = Servers();
  ASSERT_THAT(servers, SizeIs(1));
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK_AND_ASSIGN(const std::string after, ExecUrl());
  EXPECT_EQ(HostOf(before), HostOf(after));
  EXPECT_EQ(Servers(), servers);
  ASSERT_OK(daemon().Stop());
  EXPECT_EQ(Servers(), servers);
}

TEST_F(StreamServersTest, OneThatWasKilledIsSweptAndReplaced) {
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

TEST_F(StreamServersTest, OneThatDiedWithTheDaemonIsSweptAtTheStart) {
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

TEST_F(StreamServersTest, WithOtherSettingsTheOldOneEnds) {
  ASSERT_OK_AND_ASSIGN(const std::string before, ExecUrl());
  const std::vector<pid_t> servers = Servers();
  ASSERT_OK(RestartWith("stream_max_urls = 7"));
  EXPECT_TRUE(Eventually([&] { return Servers().empty() && Folders().empty(); }));
  for (int i = 0; i < 7; ++i) {
    ASSERT_OK(ExecUrl());
  }
  const auto refused = ExecUrl();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("stream_max_urls"));
  EXPECT_NE(Servers(), servers);
}

TEST_F(StreamServersTest, AUrlIsGoodAfterTheDaemonWasKilled) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo out-of-it"));
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.out, "out-of-it\n");
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_FALSE(CommandSession::Open(url, kOutput).ok());  // It was used.
}

TEST_F(StreamServersTest, ASessionGoesOnWhileTheDaemonIsReplaced) {
  ASSERT_OK_AND_ASSIGN(const std::string url,
                       ExecUrl("echo begun; until test -e /tmp/go; do sleep 0.1; done; echo went"));
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadUntil("begun"));
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK(Exec(container_, {"touch", "/tmp/go"}));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.out, "begun\nwent\n");
}

TEST_F(StreamServersTest, WhatAKilledOneRanIsKilled) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo begun; exec sleep 4322"));
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadUntil("begun"));
  ASSERT_THAT(Processes("pod"), SizeIs(2));
  ASSERT_EQ(kill(Servers().at(0), SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return Folders().empty(); }));
  EXPECT_THAT(Processes("pod"), SizeIs(1));
  EXPECT_THAT(InCgroup(), IsEmpty());
}

TEST_F(StreamServersTest, ARetiredOneServesItsLastSessionToTheEnd) {
  ASSERT_OK_AND_ASSIGN(const std::string url,
                       ExecUrl("echo begun; until test -e /tmp/go; do sleep 0.1; done; echo went"));
  ASSERT_OK_AND_ASSIGN(const std::string unused, ExecUrl());
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadUntil("begun"));
  const std::vector<pid_t> before = Servers();
  ASSERT_OK(RestartWith("stream_max_streams = 99"));
  ASSERT_OK(ExecUrl());
  EXPECT_THAT(Servers(), SizeIs(2));
  EXPECT_FALSE(CommandSession::Open(unused, kOutput).ok());
  ASSERT_OK(Exec(container_, {"touch", "/tmp/go"}));
  ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
  EXPECT_EQ(outcome.out, "begun\nwent\n");
  EXPECT_TRUE(Eventually([&] { return Servers().size() == 1 && Folders().size() == 1; }));
  EXPECT_NE(Servers(), before);
}

TEST_F(StreamServersTest, WhatAnotherConfigurationsServerLeavesIsFoundInItsOwnCgroup) {
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo begun; exec sleep 98765"));
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadUntil("begun"));
  const std::string cgroup = environment().Get("CGROUP");
  ASSERT_OK(daemon().Crash());
  ASSERT_OK(environment().EditConfig(StrCat("\"", cgroup, "/streams\""),
                                     StrCat("\"", cgroup, "/elsewhere\"")));
  ASSERT_OK(daemon().Start());
  ASSERT_OK(ExecUrl());
  ASSERT_THAT(Servers(), SizeIs(1));  // Of before.
  EXPECT_THAT(base::CgroupProcesses(StrCat(cgroup, "/elsewhere")), SizeIs(1));
  kill(Servers().front(), SIGKILL);
  EXPECT_TRUE(Eventually([&] { return InCgroup().empty() && Folders().size() == 1; }));
  EXPECT_THAT(
      base::ListDirectory(base::CgroupDirectory("pids", StrCat(cgroup, "/streams"))).value(),
      Not(Contains(MatchesRegex("[0-9a-f]{8}"))));
  ASSERT_OK_AND_ASSIGN(
      const auto left,
      Exec(container_, {"sh", "-c", "grep -l '^sleep.98765' /proc/[0-9]*/cmdline 2>/dev/null"}));
  EXPECT_EQ(left.stdout(), "");
}

TEST_F(StreamServersTest, ItEndsWhenNobodyNeedsIt) {
  ASSERT_OK(RestartWith("stream_linger_timeout = 1"));
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo out-of-it"));
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadAll());
  EXPECT_TRUE(Eventually([&] { return Servers().empty() && Folders().empty(); }));
  ASSERT_OK(ExecUrl());
  EXPECT_THAT(Servers(), SizeIs(1));
}

TEST_F(StreamServersTest, ARequestThatComesJustWhenItEndsIsAnswered) {
  ASSERT_OK(RestartWith("stream_linger_timeout = 1"));
  const unsigned rounds = EnvironmentNumber("CRISP_CRASH_ROUNDS", 3);
  for (unsigned round = 0; round < rounds; ++round) {
    ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo out-of-it"));
    ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
    ASSERT_OK_AND_ASSIGN(const CommandOutcome outcome, session->ReadAll());
    ASSERT_EQ(outcome.out, "out-of-it\n");
    poll(nullptr, 0, 995 + static_cast<int>(round % 12));
  }
}

TEST_F(StreamServersTest, APortThatIsTakenIsTheRequestsErrorUntilItIsFree) {
  int port = 0;
  ASSERT_OK_AND_ASSIGN(base::UniqueFd listener, ListenOnLoopback(&port));
  ASSERT_OK(RestartWith(StrCat("stream_port = ", port)));
  const auto refused = ExecUrl();
  EXPECT_THAT(refused, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(std::string(refused.status().message()),
              HasSubstr(StrCat("stream_port ", port, " on 127.0.0.1: Address already in use")));
  EXPECT_THAT(Folders(), IsEmpty());
  EXPECT_THAT(InCgroup(), IsEmpty());
  listener.Reset();
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl());
  EXPECT_THAT(url, StartsWith(StrCat("http://127.0.0.1:", port, "/exec/")));
}

TEST_F(StreamServersTest, ABadCertificateOrProgramIsTheRequestsError) {
  const std::string file = environment().Get("RUN") + "/not.pem";
  ASSERT_OK(base::ReplaceFile(file, "rubbish", 0600, base::Durability::kVolatile));
  ASSERT_OK(RestartWith(StrCat("stream_enable_tls = true\nstream_tls_cert = \"", file,
                               "\"\nstream_tls_key = \"", file, "\"")));
  const auto refused = ExecUrl();
  EXPECT_FALSE(refused.ok());
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("stream_tls_cert"));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr(file));
  EXPECT_THAT(Folders(), IsEmpty());
  ASSERT_OK(environment().EditConfig("stream_enable_tls = true", "stream_path = \"/no/such\""));
  ASSERT_OK(RestartWith("stream_max_urls = 9"));
  const auto missing = ExecUrl();
  EXPECT_THAT(missing, HasCode(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("stream_path"));
  // The node can run pods all the same.
  ASSERT_OK_AND_ASSIGN(const cri::StatusResponse status,
                       client().Call(&RuntimeStub::Status, cri::StatusRequest()));
  EXPECT_TRUE(status.status().conditions(0).status());
  const cri::RuntimeCondition& last =
      status.status().conditions(status.status().conditions_size() - 1);
  EXPECT_EQ(last.type(), "StreamingReady");
  EXPECT_FALSE(last.status());
}

TEST_F(StreamServersTest, BadRequestsNameTheFieldAndStartNothing) {
  using Change = std::function<void(cri::ExecRequest*)>;
  struct Bad {
    Change change;
    absl::StatusCode code;
    std::string word;
  };
  const absl::StatusCode invalid = absl::StatusCode::kInvalidArgument;
  for (const Bad& bad : std::vector<Bad>{
           {[](auto* r) { r->clear_cmd(); }, invalid, "cmd"},
           {[](auto* r) { r->set_stdout(false); }, invalid, "stdin, stdout and stderr"},
           {[](auto* r) { r->set_tty(true), r->set_stderr(true); }, invalid, "tty"},
           {[](auto* r) { r->set_container_id(""); }, invalid, "id"},
           {[](auto* r) { r->set_container_id("no id"); }, absl::StatusCode::kNotFound, "id"},
           {[](auto* r) { *r->mutable_cmd(0) = std::string(3 << 20, 'x'); }, invalid, "cmd"},
           {[](auto* r) { r->set_container_id(std::string(64, '0')); }, absl::StatusCode::kNotFound,
            "000"}}) {
    const auto refused = ExecUrl("true", bad.change);
    EXPECT_THAT(refused, HasCode(bad.code)) << bad.word;
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(bad.word));
  }
  cri::AttachRequest attach;
  attach.set_container_id(container_);
  EXPECT_THAT(client().Call(&RuntimeStub::Attach, attach), HasCode(invalid));
  attach.set_stderr(true);
  attach.set_tty(true);
  EXPECT_THAT(client().Call(&RuntimeStub::Attach, attach), HasCode(invalid));
  attach.set_tty(false);
  attach.set_container_id("");
  EXPECT_THAT(client().Call(&RuntimeStub::Attach, attach), HasCode(invalid));
  cri::PortForwardRequest forward;
  EXPECT_THAT(client().Call(&RuntimeStub::PortForward, forward), HasCode(invalid));
  forward.set_pod_sandbox_id(pod_);
  for (const int port : {0, -1, 65536}) {
    forward.clear_port();
    forward.add_port(port);
    const auto refused = client().Call(&RuntimeStub::PortForward, forward);
    EXPECT_THAT(refused, HasCode(invalid));
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("port"));
  }
  EXPECT_THAT(Servers(), IsEmpty());
  EXPECT_THAT(Folders(), IsEmpty());
}

TEST_F(StreamServersTest, WhatDoesNotRunHasNoStreams) {
  cri::AttachRequest attach;
  attach.set_container_id(container_);
  attach.set_stdout(true);
  cri::PortForwardRequest forward;
  forward.set_pod_sandbox_id(pod_);
  EXPECT_OK(client().Call(&RuntimeStub::Attach, attach));
  EXPECT_OK(client().Call(&RuntimeStub::PortForward, forward));
  ASSERT_OK(StopContainer(container_, 0));
  const absl::StatusCode failed = absl::StatusCode::kFailedPrecondition;
  EXPECT_THAT(ExecUrl(), HasCode(failed));
  EXPECT_THAT(client().Call(&RuntimeStub::Attach, attach), HasCode(failed));
  ASSERT_OK_AND_ASSIGN(const std::string created,
                       Create(ContainerRequest(pod_, "created", "exec sleep 4321")));
  EXPECT_THAT(ExecUrl("true", [&](auto* request) { request->set_container_id(created); }),
              HasCode(failed));
  ASSERT_OK(StopPod(pod_));
  EXPECT_THAT(client().Call(&RuntimeStub::PortForward, forward), HasCode(failed));
}

TEST_F(StreamServersTest, OneThatHangsWhileTheDaemonStartsHoldsNobodyUp) {
  ASSERT_OK(ExecUrl());
  const std::vector<pid_t> hanging = Servers();
  ASSERT_THAT(hanging, SizeIs(1));
  ASSERT_EQ(kill(hanging[0], SIGSTOP), 0);
  ASSERT_OK(CrashAndRestart());
  ASSERT_OK(ExecUrl());
  EXPECT_THAT(Servers(), SizeIs(2));
  // It is asked again, and then it is one too many.
  ASSERT_EQ(kill(hanging[0], SIGCONT), 0);
  EXPECT_TRUE(Eventually([&] { return Servers().size() == 1 && Folders().size() == 1; }));
  EXPECT_NE(Servers(), hanging);
}

TEST_F(StreamServersTest, AReplacedProgramTakesOverWithoutARestart) {
  const std::string program = environment().Get("VAR") + "/crisp-stream";
  ASSERT_OK(RunProgram({"cp", ProgramPath("crisp-stream"), program}));
  ASSERT_OK(RestartWith(StrCat("stream_path = \"", program, "\"")));
  ASSERT_OK(ExecUrl());
  const std::vector<pid_t> before = Servers();
  ASSERT_OK(RunProgram({"cp", program, program + ".new"}));
  ASSERT_OK(RunProgram({"mv", program + ".new", program}));
  ASSERT_OK(ExecUrl());
  EXPECT_TRUE(Eventually([&] { return Servers().size() == 1 && Folders().size() == 1; }));
  EXPECT_NE(Servers(), before);
  // Without its program it goes on.
  ASSERT_OK(RunProgram({"rm", program}));
  EXPECT_OK(ExecUrl());
}

TEST_F(StreamServersTest, StatusShowsIt) {
  cri::StatusRequest request;
  request.set_verbose(true);
  ASSERT_OK_AND_ASSIGN(cri::StatusResponse status, client().Call(&RuntimeStub::Status, request));
  EXPECT_EQ(status.info().at("streamingServers"), "[]");
  ASSERT_OK_AND_ASSIGN(const std::string url, ExecUrl("echo begun; exec sleep 4322"));
  ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(url, kOutput));
  ASSERT_OK(session->ReadUntil("begun"));
  ASSERT_OK_AND_ASSIGN(status, client().Call(&RuntimeStub::Status, request));
  const std::string shown = status.info().at("streamingServers");
  EXPECT_THAT(shown, HasSubstr(StrCat("\"pid\":", Servers().at(0))));
  EXPECT_THAT(shown,
              HasSubstr(StrCat("\"port\":", HostOf(url).substr(HostOf(url).rfind(':') + 1))));
  EXPECT_THAT(shown, HasSubstr("\"sessions\":1"));
}

TEST_F(StreamServersTest, OneConnectionTooManyIsToldSo) {
  ASSERT_OK(RestartWith("stream_max_sessions = 1"));
  ASSERT_OK_AND_ASSIGN(const std::string first,
                       ExecUrl("echo begun; until test -e /tmp/go; do sleep 0.1; done"));
  ASSERT_OK_AND_ASSIGN(const std::string second, ExecUrl());
  {
    ASSERT_OK_AND_ASSIGN(const auto session, CommandSession::Open(first, kOutput));
    ASSERT_OK(session->ReadUntil("begun"));
    const auto refused = CommandSession::Open(second, kOutput);
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("503"));
    EXPECT_THAT(daemon().Log(), HasSubstr("stream_max_sessions is reached"));
  }
  // Its command goes on, and with it its place.
  ASSERT_OK(Exec(container_, {"touch", "/tmp/go"}));
  EXPECT_TRUE(Eventually([&] {
    const auto session = CommandSession::Open(second, kOutput);
    return session.ok() && (*session)->ReadAll().ok();
  }));
}

TEST_F(StreamServersTest, NothingIsLeftWhateverIsKilledAndWhen) {
  const unsigned seed = EnvironmentNumber("CRISP_CRASH_SEED", std::random_device()());
  RecordProperty("seed", std::to_string(seed));
  std::mt19937 random(seed);
  const unsigned rounds = EnvironmentNumber("CRISP_CRASH_ROUNDS", 9);
  for (unsigned round = 0; round < rounds; ++round) {
    const auto url = ExecUrl("exec sleep 4322");
    ASSERT_OK(url);
    std::thread caller([&url] { CommandSession::Open(*url, kOutput).status().IgnoreError(); });
    poll(nullptr, 0, static_cast<int>(random() % 60));
    const std::vector<pid_t> servers = Servers();
    if (round % 3 != 0) {
      ASSERT_OK(daemon().Crash());
    }
    if (round % 3 != 1) {
      for (const pid_t pid : servers) kill(pid, SIGKILL);
    }
    caller.join();
    if (round % 3 != 0) {
      ASSERT_OK(daemon().Start());
    }
  }
  for (const pid_t pid : Servers()) kill(pid, SIGKILL);
  EXPECT_TRUE(Eventually([&] { return Folders().empty(); })) << "seed " << seed;
  EXPECT_THAT(InCgroup(), IsEmpty()) << "seed " << seed;
  EXPECT_THAT(Processes("pod"), SizeIs(1)) << "seed " << seed;
  ASSERT_OK(StopPod(pod_));
  ASSERT_OK(RemovePod(pod_));
  EXPECT_THAT(Leftovers(), IsEmpty());
}

}  // namespace
}  // namespace test
