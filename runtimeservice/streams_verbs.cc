// Exec, Attach, PortForward: what can be refused is refused here; the rest is crisp-stream's.
#include <sys/un.h>

#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/process_stat.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "conmon/protocol.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/streaming/exec_files.h"

namespace runtimeservice {
namespace {

namespace stream = crisp::stream;

constexpr int kMaxPort = 65535;
constexpr int kMaxPorts = 1000;
// Of exec's command; the kernel's own limit for all of them (execve(2)) is in this range.
constexpr size_t kMaxCommandBytes = 2 << 20;

template <typename Request>
absl::Status CheckStreams(const Request& request) {
  if (!request.stdin() && !request.stdout() && !request.stderr()) {
    return absl::InvalidArgumentError("one of stdin, stdout and stderr must be true");
  }
  if (request.tty() && request.stderr()) {
    return absl::InvalidArgumentError(
        "tty and stderr cannot both be true: a terminal has one output");
  }
  return absl::OkStatus();
}

absl::Status CheckCommand(const cri::ExecRequest& request) {
  if (request.cmd_size() == 0) {
    return absl::InvalidArgumentError("cmd is empty");
  }
  size_t bytes = 0;
  for (const std::string& word : request.cmd()) {
    bytes += word.size() + 1;
    if (word.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError("cmd has a NUL byte");
    }
  }
  return bytes <= kMaxCommandBytes
             ? absl::OkStatus()
             : absl::InvalidArgumentError(
                   base::StrCat("cmd has ", bytes, " bytes, more than ", kMaxCommandBytes));
}

absl::Status CheckPorts(const cri::PortForwardRequest& request) {
  if (request.port_size() > kMaxPorts) {
    return absl::InvalidArgumentError(
        base::StrCat("port has ", request.port_size(), " elements, more than ", kMaxPorts));
  }
  for (const int port : request.port()) {
    if (port < 1 || port > kMaxPort) {
      return absl::InvalidArgumentError(
          base::StrCat("port: ", port, " is none of 1 to ", kMaxPort));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<cri::ExecResponse> RuntimeService::Exec(const Context& ctx,
                                                       const cri::ExecRequest& request) {
  RETURN_IF_ERROR(CheckStreams(request));
  RETURN_IF_ERROR(CheckCommand(request));
  ASSIGN_OR_RETURN(const ContainerRef container,
                   registry_->ResolveContainer(request.container_id()));
  const base::LogField field("container", container->id.str());
  const std::string what = base::StrCat("exec in container ", container->id.str());
  if (container->CriState() != cri::CONTAINER_RUNNING) {
    return absl::FailedPreconditionError(base::StrCat(what, ": it is not running"));
  }
  absl::StatusOr<std::string> url = streams_.Open(
      ctx, [&](const std::string& instance) { return ExecSession(*container, request, instance); });
  RETURN_IF_ERROR(base::Annotate(url.status(), what));
  cri::ExecResponse response;
  response.set_url(*std::move(url));
  return response;
}

absl::StatusOr<stream::Session> RuntimeService::ExecSession(const Container& container,
                                                            const cri::ExecRequest& request,
                                                            const std::string& instance) const {
  const Terminal terminal = request.tty() ? Terminal::kYes : Terminal::kNo;
  const std::string folder = base::StrCat(instance, "/", base::RandomHex64().substr(0, 16));
  if (folder.size() + sizeof(streaming::kConsoleSocket) > sizeof(sockaddr_un::sun_path)) {
    return absl::FailedPreconditionError(
        "crisp.runroot: too long a path for the sockets of terminals in it");
  }
  stream::Session session;
  stream::ExecSession& exec = *session.mutable_exec();
  exec.set_container_id(container.id.str());
  exec.set_folder(folder);
  const std::vector<std::string> cmd(request.cmd().begin(), request.cmd().end());
  ASSIGN_OR_RETURN(*exec.mutable_process(), ExecProcess(container, cmd, terminal));
  ExecSpec spec = ExecSpecIn(folder, container, terminal);
  spec.cgroup = "-";  // It stays with crisp-stream, which outlives this daemon.
  const base::Command command = RuntimeOf(container.record).ExecCommand(container.id.str(), spec);
  exec.mutable_argv()->Assign(command.argv.begin(), command.argv.end());
  exec.mutable_environment()->Assign(command.env.begin(), command.env.end());
  exec.set_tty(request.tty());
  exec.set_stdin(request.stdin());
  exec.set_stdout(request.stdout());
  exec.set_stderr(request.stderr());
  exec.set_init_pid(container.pid);
  const absl::StatusOr<base::ProcessStat> init = base::ReadProcessStat(container.pid);
  exec.set_init_start_time(init.ok() ? init->start_time : 0);
  return session;
}

absl::StatusOr<cri::AttachResponse> RuntimeService::Attach(const Context& ctx,
                                                           const cri::AttachRequest& request) {
  RETURN_IF_ERROR(CheckStreams(request));
  ASSIGN_OR_RETURN(const ContainerRef container,
                   registry_->ResolveContainer(request.container_id()));
  const base::LogField field("container", container->id.str());
  const std::string what = base::StrCat("attach to container ", container->id.str());
  // Its monitor has the streams before the container is started.
  if (const cri::ContainerState state = container->CriState();
      state != cri::CONTAINER_RUNNING && state != cri::CONTAINER_CREATED) {
    return absl::FailedPreconditionError(base::StrCat(what, ": it is not running"));
  }
  const cri::ContainerConfig& config = container->record.config();
  stream::Session session;
  stream::AttachSession& attach = *session.mutable_attach();
  attach.set_container_id(container->id.str());
  attach.set_monitor_socket(
      base::StrCat(paths_.Container(container->id), "/", conmon::kSocketFile));
  attach.set_tty(request.tty());
  attach.set_stdin(request.stdin());
  attach.set_stdout(request.stdout());
  attach.set_stderr(request.stderr());
  attach.set_stdin_once(config.stdin_once());
  absl::StatusOr<std::string> url = streams_.Open(ctx, [&](const std::string&) { return session; });
  RETURN_IF_ERROR(base::Annotate(url.status(), what));
  cri::AttachResponse response;
  response.set_url(*std::move(url));
  return response;
}

absl::StatusOr<cri::PortForwardResponse> RuntimeService::PortForward(
    const Context& ctx, const cri::PortForwardRequest& request) {
  RETURN_IF_ERROR(CheckPorts(request));
  ASSIGN_OR_RETURN(const PodRef pod, registry_->ResolvePod(request.pod_sandbox_id()));
  const base::LogField field("pod", pod->id.str());
  const std::string what = base::StrCat("port-forward to pod ", pod->id.str());
  if (!PodReady(*pod)) {
    return absl::FailedPreconditionError(base::StrCat(what, ": it is not ready"));
  }
  if (pod->record.sandboxed()) {
    return absl::FailedPreconditionError(
        base::StrCat(what, ": its runtime keeps the network to itself (runtime handler \"",
                     pod->record.runtime_handler(), "\")"));
  }
  stream::Session session;
  stream::PortForwardSession& forward = *session.mutable_port_forward();
  forward.set_pod_id(pod->id.str());
  forward.set_pod_folder(paths_.Pod(pod->id));
  for (const state::NamespacePin& pin : pod->record.pins()) {
    if (pin.type() == "net") {
      forward.set_network_namespace(pin.path());
    }
  }
  for (const int port : request.port()) {
    forward.add_ports(static_cast<uint32_t>(port));
  }
  absl::StatusOr<std::string> url = streams_.Open(ctx, [&](const std::string&) { return session; });
  RETURN_IF_ERROR(base::Annotate(url.status(), what));
  cri::PortForwardResponse response;
  response.set_url(*std::move(url));
  return response;
}

}  // namespace runtimeservice
