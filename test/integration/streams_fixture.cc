#include "test/integration/streams_fixture.h"

#include <unistd.h>

#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"

namespace test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

int64_t PssOf(pid_t pid) {
  const auto rollup = base::ReadFile(base::StrCat("/proc/", pid, "/smaps_rollup"));
  if (!rollup.ok()) return 0;
  for (const auto& line : absl::StrSplit(*rollup, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t kib = 0;
    if (words.size() >= 2 && words[0] == "Pss:" && absl::SimpleAtoi(words[1], &kib)) return kib;
  }
  return 0;
}

size_t CountEntries(const std::string& directory) {
  const auto names = base::ListDirectory(directory);
  return names.ok() ? names->size() : 0;
}

}  // namespace

void StreamsFixture::SetUp() {
  IntegrationTest::SetUp();
  if (HasFatalFailure() || IsSkipped()) return;
  ASSERT_OK(Pull(kBusybox));
  ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
  ASSERT_OK_AND_ASSIGN(container_, RunContainer(pod_, "c", "exec sleep 100000"));
}

absl::StatusOr<std::string> StreamsFixture::ExecUrl(const std::vector<std::string>& command,
                                                    const CommandOptions& options,
                                                    std::string_view container) const {
  cri::ExecRequest request;
  request.set_container_id(container.empty() ? container_ : std::string(container));
  request.mutable_cmd()->Assign(command.begin(), command.end());
  request.set_stdin(options.in);
  request.set_stdout(options.out);
  request.set_stderr(options.err && !options.tty);
  request.set_tty(options.tty);
  ASSIGN_OR_RETURN(const cri::ExecResponse answer, client().Call(&RuntimeStub::Exec, request));
  return answer.url();
}

absl::StatusOr<std::string> StreamsFixture::AttachUrl(const CommandOptions& options,
                                                      std::string_view container) const {
  cri::AttachRequest request;
  request.set_container_id(container.empty() ? container_ : std::string(container));
  request.set_stdin(options.in);
  request.set_stdout(options.out);
  request.set_stderr(options.err && !options.tty);
  request.set_tty(options.tty);
  ASSIGN_OR_RETURN(const cri::AttachResponse answer, client().Call(&RuntimeStub::Attach, request));
  return answer.url();
}

absl::StatusOr<std::string> StreamsFixture::ForwardUrl(std::string_view pod) const {
  cri::PortForwardRequest request;
  request.set_pod_sandbox_id(pod.empty() ? pod_ : std::string(pod));
  ASSIGN_OR_RETURN(const cri::PortForwardResponse answer,
                   client().Call(&RuntimeStub::PortForward, request));
  return answer.url();
}

absl::StatusOr<std::unique_ptr<CommandSession>> StreamsFixture::OpenExec(
    std::string_view script, const CommandOptions& options, std::string_view container) const {
  ASSIGN_OR_RETURN(const std::string url,
                   ExecUrl({"sh", "-c", std::string(script)}, options, container));
  return CommandSession::Open(url, options);
}

absl::StatusOr<CommandOutcome> StreamsFixture::RunExec(std::string_view script,
                                                       CommandOptions options,
                                                       std::string_view input) const {
  options.in = options.in || !input.empty();
  ASSIGN_OR_RETURN(auto session, OpenExec(script, options));
  if (!input.empty()) RETURN_IF_ERROR(session->Send(Channel::kStdin, input));
  if (options.in && !absl::StrContains(session->protocol(), "base64") &&
      (options.transport == Transport::kSpdy || absl::StartsWith(session->protocol(), "v5"))) {
    RETURN_IF_ERROR(session->FinishInput());
  }
  return session->ReadAll();
}

absl::StatusOr<std::unique_ptr<CommandSession>> StreamsFixture::OpenAttach(
    const CommandOptions& options, std::string_view container) const {
  ASSIGN_OR_RETURN(const std::string url, AttachUrl(options, container));
  return CommandSession::Open(url, options);
}

absl::StatusOr<base::CommandResult> StreamsFixture::Crictl(
    const std::vector<std::string>& arguments, std::string_view input) const {
  base::Command command;
  command.argv = {SourcePath("build/critest/crictl"), "--config", "/dev/null", "-r",
                  base::StrCat("unix://", environment().Get("SOCKET"))};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  command.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm"};
  return base::RunCommand(base::Context::Detached(absl::Seconds(60)), command, input);
}

pid_t StreamsFixture::StreamServer() const {
  for (const pid_t pid : base::CgroupProcesses(environment().Get("CGROUP") + "/streams")) {
    const auto name = base::ReadFile(base::StrCat("/proc/", pid, "/comm"));
    if (name.ok() && *name == "crisp-stream\n") return pid;
  }
  return -1;
}

StreamServerState StreamsFixture::StreamState() const {
  StreamServerState state;
  state.pid = StreamServer();
  const std::string process = base::StrCat("/proc/", state.pid);
  state.descriptors = CountEntries(process + "/fd");
  state.threads = CountEntries(process + "/task");
  state.processes = base::CgroupProcesses(environment().Get("CGROUP") + "/streams").size();
  state.pss_kib = PssOf(state.pid);
  return state;
}

testing::AssertionResult StreamsFixture::ReturnsTo(const StreamServerState& idle) const {
  StreamServerState now;
  const bool returned = Eventually([&] {
    now = StreamState();
    return now.pid == idle.pid && now.descriptors <= idle.descriptors &&
           now.threads <= idle.threads && now.processes <= idle.processes &&
           SessionFolders().empty();
  });
  if (returned) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "crisp-stream " << now.pid << " (was " << idle.pid << "): " << now.descriptors
         << " descriptors (were " << idle.descriptors << "), " << now.threads << " threads (were "
         << idle.threads << "), " << now.processes << " processes (were " << idle.processes
         << "), folders " << testing::PrintToString(SessionFolders());
}

testing::AssertionResult StreamsFixture::ServerHasAtMost(int64_t kib) const {
  const int64_t now = StreamState().pss_kib;
  if (kSanitized || now <= kib) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "crisp-stream has " << now << " KiB, expected " << kib;
}

std::vector<std::string> StreamsFixture::SessionFolders() const {
  std::vector<std::string> folders;
  const std::string top = environment().Get("RUN_ROOT") + "/streams";
  const auto instances = base::ListDirectory(top);
  if (!instances.ok()) return folders;
  for (const std::string& instance : *instances) {
    const auto names = base::ListDirectory(base::StrCat(top, "/", instance));
    if (!names.ok()) continue;
    for (const std::string& name : *names) {
      if (name.size() == 16) folders.push_back(base::StrCat(instance, "/", name));
    }
  }
  return folders;
}

bool StreamsFixture::Runs(std::string_view argument, std::string_view pod_name) const {
  for (const pid_t pid : Processes(pod_name)) {
    const auto line = base::ReadFile(base::StrCat("/proc/", pid, "/cmdline"));
    if (line.ok() && absl::StrContains(*line, base::ToAbsl(argument))) return true;
  }
  return false;
}

std::string StreamsFixture::NetworkNamespace(std::string_view pod) const {
  const std::string directory = environment().Get("NETNS");
  const auto names = base::ListDirectory(directory);
  if (!names.ok()) return "";
  for (const std::string& name : *names) {
    if (absl::StrContains(name, base::ToAbsl(pod))) return base::StrCat(directory, "/", name);
  }
  return "";
}

CommandOptions Streams(Transport transport, std::string_view streams) {
  CommandOptions options;
  options.transport = transport;
  options.in = streams.find('i') != streams.npos;
  options.out = streams.find('o') != streams.npos;
  options.err = streams.find('e') != streams.npos;
  options.tty = streams.find('t') != streams.npos;
  return options;
}

std::string_view TestBytes::Next(size_t size) {
  buffer_.resize((size + 7) / 8 * 8);
  for (size_t at = 0; at < buffer_.size(); at += 8) {
    // splitmix64.
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    memcpy(buffer_.data() + at, &mixed, sizeof(mixed));
  }
  return std::string_view(buffer_).substr(0, size);
}

int64_t TransferBytes() {
  return static_cast<int64_t>(EnvironmentNumber("CRISP_STREAM_MEGABYTES", 128)) << 20;
}

}  // namespace test
