// crisp-stream-bench: exec and port-forward through the CRI, with their times, for
// test/bench/streams. As Go's clients it sends 32 KiB at a time.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <chrono>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "test/client/cri_client.h"
#include "test/client/stream_client.h"

namespace {

using test::Channel;
using test::CommandEvent;
using test::CriClient;
using test::ForwardEvent;
using test::RuntimeStub;

constexpr char kUsage[] =
    "usage: crisp-stream-bench VERB OPTION=VALUE...\n"
    "  start        a pod and a container that sleeps; prints their ids\n"
    "  exec         one command after the other: \"url MS\" of the RPC, \"exec MS\" with its "
    "result\n"
    "  exec-sync    the same by ExecSync: \"exec-sync MS\"\n"
    "  out, in      bytes from a command, to a command\n"
    "  forward-out, forward-in   bytes from a port of the pod, to it\n"
    "  serve        in a pod's network: prints a port that forward-out and forward-in use\n"
    "options: socket=PATH container=ID pod=ID count=N bytes=N port=N transport=spdy|v4|v5|tunnel\n"
    "         image=ID cgroup=PATH logs=DIR\n"
    "transfers print \"seconds S\" and \"client_cpu S\"\n";

constexpr size_t kPiece = 32 << 10;
constexpr size_t kServed = 256 << 10;

struct Options {
  std::string socket;
  std::string container;
  std::string pod;
  std::string image;
  std::string cgroup;
  std::string logs;
  std::string transport = "spdy";
  int64_t count = 1;
  int64_t bytes = 1 << 20;
  int64_t port = 0;
};

using Clock = std::chrono::steady_clock;

double MillisecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)), client_(options_.socket) {}

  absl::Status Start() {
    cri::RunPodSandboxRequest run;
    cri::PodSandboxConfig* pod = run.mutable_config();
    pod->mutable_metadata()->set_name("streams");
    pod->mutable_metadata()->set_namespace_("bench");
    pod->mutable_metadata()->set_uid("streams");
    pod->set_hostname("streams");
    pod->set_log_directory(options_.logs);
    pod->mutable_linux()->set_cgroup_parent(options_.cgroup);
    pod->mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(
        cri::CONTAINER);
    ASSIGN_OR_RETURN(const auto sandbox, client_.Call(&RuntimeStub::RunPodSandbox, run));
    cri::CreateContainerRequest create;
    create.set_pod_sandbox_id(sandbox.pod_sandbox_id());
    *create.mutable_sandbox_config() = run.config();
    cri::ContainerConfig* container = create.mutable_config();
    container->mutable_metadata()->set_name("main");
    container->mutable_image()->set_image(options_.image);
    container->set_log_path("main.log");
    container->add_command("/bin/sleep");
    container->add_args("1000000");
    *container->mutable_linux()->mutable_security_context()->mutable_namespace_options() =
        pod->linux().security_context().namespace_options();
    ASSIGN_OR_RETURN(const auto created, client_.Call(&RuntimeStub::CreateContainer, create));
    cri::StartContainerRequest start;
    start.set_container_id(created.container_id());
    std::cout << sandbox.pod_sandbox_id() << "\n" << created.container_id() << "\n";
    return client_.Call(&RuntimeStub::StartContainer, start).status();
  }

  absl::Status Exec() {
    for (int64_t i = 0; i < options_.count; ++i) {
      const auto begin = Clock::now();
      ASSIGN_OR_RETURN(const std::string url, ExecUrl({"/bin/true"}, false));
      const double url_ms = MillisecondsSince(begin);
      ASSIGN_OR_RETURN(auto session, test::CommandSession::Open(url, Command(false)));
      ASSIGN_OR_RETURN(const test::CommandOutcome outcome, session->ReadAll());
      std::cout << "url " << url_ms << "\nexec " << MillisecondsSince(begin) << "\n";
      if (outcome.exit_code() != 0) return absl::UnknownError("the command: " + outcome.status);
    }
    return absl::OkStatus();
  }

  absl::Status ExecSync() {
    cri::ExecSyncRequest request;
    request.set_container_id(options_.container);
    request.add_cmd("/bin/true");
    for (int64_t i = 0; i < options_.count; ++i) {
      const auto begin = Clock::now();
      RETURN_IF_ERROR(client_.Call(&RuntimeStub::ExecSync, request).status());
      std::cout << "exec-sync " << MillisecondsSince(begin) << "\n";
    }
    return absl::OkStatus();
  }

  absl::Status Out() {
    ASSIGN_OR_RETURN(
        const std::string url,
        ExecUrl({"dd", "if=/dev/zero", "bs=65536", base::StrCat("count=", options_.bytes / 65536)},
                false));
    const double cpu = CpuSeconds();
    const auto begin = Clock::now();
    ASSIGN_OR_RETURN(auto session, test::CommandSession::Open(url, Command(false)));
    int64_t received = 0;
    while (!session->done()) {
      ASSIGN_OR_RETURN(const CommandEvent event, session->Next(test::kAnswer));
      if (event.kind == CommandEvent::Kind::kData && event.channel == Channel::kStdout) {
        received += static_cast<int64_t>(event.bytes.size());
      }
    }
    return Report(begin, cpu, received);
  }

  absl::Status In() {
    // The command ends once it has all: protocols before v5 cannot say it over WebSocket. The shell
    // keeps its output open; containerd closes the input when all outputs are closed.
    ASSIGN_OR_RETURN(const std::string url,
                     ExecUrl({"sh", "-c",
                              base::StrCat("dd of=/dev/null bs=65536 iflag=fullblock count=",
                                           options_.bytes / 65536, " 2>/dev/null; true")},
                             true));
    const double cpu = CpuSeconds();
    const auto begin = Clock::now();
    ASSIGN_OR_RETURN(auto session, test::CommandSession::Open(url, Command(true)));
    const std::string piece(kPiece, 'x');
    for (int64_t sent = 0; sent < options_.bytes; sent += kPiece) {
      RETURN_IF_ERROR(session->Send(Channel::kStdin, piece));
    }
    ASSIGN_OR_RETURN(const test::CommandOutcome outcome, session->ReadAll());
    if (outcome.exit_code() != 0) return absl::UnknownError("the command: " + outcome.status);
    return Report(begin, cpu, options_.bytes);
  }

  // The server sends as many bytes as the line that it gets says. Nothing is half-closed before the
  // end: containerd gives a connection up one second after either side was.
  absl::Status ForwardOut() {
    ASSIGN_OR_RETURN(auto session, Forward());
    const double cpu = CpuSeconds();
    const auto begin = Clock::now();
    ASSIGN_OR_RETURN(const size_t connection, session->Connect(Port()));
    RETURN_IF_ERROR(session->Send(connection, base::StrCat(options_.bytes, "\n")));
    RETURN_IF_ERROR(Receive(*session, options_.bytes));
    return Report(begin, cpu, options_.bytes);
  }

  // After a negative number it takes so many bytes and answers with one.
  absl::Status ForwardIn() {
    ASSIGN_OR_RETURN(auto session, Forward());
    const double cpu = CpuSeconds();
    const auto begin = Clock::now();
    ASSIGN_OR_RETURN(const size_t connection, session->Connect(Port()));
    RETURN_IF_ERROR(session->Send(connection, base::StrCat(-options_.bytes, "\n")));
    const std::string piece(kPiece, 'x');
    for (int64_t sent = 0; sent < options_.bytes; sent += kPiece) {
      RETURN_IF_ERROR(session->Send(connection, piece));
    }
    RETURN_IF_ERROR(Receive(*session, 1));
    return Report(begin, cpu, options_.bytes);
  }

  absl::Status Serve() {
    const base::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(listener.get(), 16) != 0 ||
        getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      return base::ErrnoStatus(errno, "listen");
    }
    std::cout << ntohs(address.sin_port) << std::endl;
    while (true) {
      const base::UniqueFd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (client.valid()) ServeClient(client.get());
    }
  }

 private:
  static void ServeClient(int fd) {
    std::vector<char> buffer(kServed);
    std::string line;
    char c = 0;
    while (recv(fd, &c, 1, 0) == 1 && c != '\n') line += c;
    int64_t wanted = 0;
    if (!absl::SimpleAtoi(line, &wanted)) return;
    while (wanted < 0) {
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got <= 0) return;
      wanted += got;
      if (wanted == 0) send(fd, "!", 1, MSG_NOSIGNAL);
    }
    while (wanted > 0) {
      const ssize_t sent = send(fd, buffer.data(),
                                std::min(buffer.size(), static_cast<size_t>(wanted)), MSG_NOSIGNAL);
      if (sent <= 0) return;
      wanted -= sent;
    }
    // Until the other side closes.
    while (recv(fd, buffer.data(), buffer.size(), 0) > 0) {
    }
  }

  uint16_t Port() const { return static_cast<uint16_t>(options_.port); }

  test::CommandOptions Command(bool in) const {
    test::CommandOptions command;
    command.in = in;
    command.err = false;
    command.masking = test::Masking::kZero;
    if (options_.transport != "spdy") {
      command.transport = test::Transport::kWebSocket;
      command.protocols = {options_.transport + ".channel.k8s.io"};
    }
    return command;
  }

  absl::StatusOr<std::string> ExecUrl(const std::vector<std::string>& command, bool in) {
    cri::ExecRequest request;
    request.set_container_id(options_.container);
    request.mutable_cmd()->Assign(command.begin(), command.end());
    request.set_stdin(in);
    request.set_stdout(true);
    ASSIGN_OR_RETURN(const cri::ExecResponse answer, client_.Call(&RuntimeStub::Exec, request));
    return answer.url();
  }

  absl::StatusOr<std::unique_ptr<test::ForwardSession>> Forward() {
    cri::PortForwardRequest request;
    request.set_pod_sandbox_id(options_.pod);
    request.add_port(static_cast<int32_t>(options_.port));
    ASSIGN_OR_RETURN(const cri::PortForwardResponse answer,
                     client_.Call(&RuntimeStub::PortForward, request));
    return test::ForwardSession::Open(answer.url(),
                                      options_.transport == "tunnel"
                                          ? test::ForwardTransport::kTunnel
                                          : test::ForwardTransport::kSpdy,
                                      {}, test::Masking::kZero);
  }

  // Until `bytes` have come.
  static absl::Status Receive(test::ForwardSession& session, int64_t bytes) {
    while (bytes > 0) {
      ASSIGN_OR_RETURN(const ForwardEvent event, session.Next(test::kAnswer));
      if (event.kind == ForwardEvent::Kind::kError) {
        return absl::UnknownError(base::ToAbsl(event.bytes));
      }
      if (event.kind == ForwardEvent::Kind::kData) {
        bytes -= static_cast<int64_t>(event.bytes.size());
      } else if (event.kind != ForwardEvent::Kind::kPing) {
        return absl::UnavailableError(base::StrCat("the server ends, ", bytes, " bytes missing"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Report(Clock::time_point begin, double cpu, int64_t bytes) const {
    std::cout << "seconds " << MillisecondsSince(begin) / 1000 << "\nclient_cpu "
              << CpuSeconds() - cpu << "\n";
    if (bytes == options_.bytes) return absl::OkStatus();
    return absl::DataLossError(base::StrCat(bytes, " of ", options_.bytes, " bytes"));
  }

  const Options options_;
  const CriClient client_;
};

bool Parse(std::string_view text, Options* options) {
  const std::pair<std::string, std::string> option =
      absl::StrSplit(base::ToAbsl(text), absl::MaxSplits('=', 1));
  const std::map<std::string, std::string*> texts = {{"socket", &options->socket},
                                                     {"container", &options->container},
                                                     {"pod", &options->pod},
                                                     {"image", &options->image},
                                                     {"cgroup", &options->cgroup},
                                                     {"logs", &options->logs},
                                                     {"transport", &options->transport}};
  const std::map<std::string, int64_t*> numbers = {
      {"count", &options->count}, {"bytes", &options->bytes}, {"port", &options->port}};
  if (const auto found = texts.find(option.first); found != texts.end()) {
    *found->second = option.second;
    return true;
  }
  const auto found = numbers.find(option.first);
  return found != numbers.end() && absl::SimpleAtoi(option.second, found->second);
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string_view, absl::Status (Bench::*)()> verbs = {
      {"start", &Bench::Start},
      {"exec", &Bench::Exec},
      {"exec-sync", &Bench::ExecSync},
      {"out", &Bench::Out},
      {"in", &Bench::In},
      {"serve", &Bench::Serve},
      {"forward-out", &Bench::ForwardOut},
      {"forward-in", &Bench::ForwardIn}};
  Options options;
  bool good = argc > 1 && verbs.contains(argv[1]);
  for (int i = 2; i < argc; ++i) good = good && Parse(argv[i], &options);
  if (!good) {
    std::cerr << kUsage;
    return 2;
  }
  Bench bench(std::move(options));
  const absl::Status status = (bench.*verbs.at(argv[1]))();
  if (!status.ok()) {
    std::cerr << "crisp-stream-bench: " << argv[1] << ": " << status.ToString() << "\n";
    return 1;
  }
  return 0;
}
