#include "runtimeservice/sandbox.h"

#include <signal.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/runtime_service.h"

namespace runtimeservice {

absl::Status CheckSandbox(const Handler& handler, const cri::PodSandboxConfig& config) {
  if (!handler.traits.sandboxed) {
    return absl::OkStatus();
  }
  const cri::NamespaceOption& options = config.linux().security_context().namespace_options();
  const std::vector<std::string>& arguments = handler.runtime.config().extra_arguments;
  const bool on_host =
      std::any_of(arguments.begin(), arguments.end(), [](const std::string& argument) {
        return argument == "--network=host" || argument == "-network=host";
      });
  const std::tuple<const char*, cri::NamespaceMode, bool> modes[] = {
      {"network", options.network(), on_host},
      {"pid", options.pid(), false},
      {"ipc", options.ipc(), false}};
  for (const auto& [name, mode, allowed] : modes) {
    if (mode == cri::NODE && !allowed) {
      return absl::FailedPreconditionError(base::StrCat(
          "config.linux.security_context.namespace_options.", name, ": runtime handler \"",
          handler.name, "\" keeps its pods in a sandbox, which has a namespace of its own"));
    }
  }
  return absl::OkStatus();
}

absl::Status RuntimeService::StartByMonitor(const Context& ctx, const Container& container) {
  ASSIGN_OR_RETURN(MonitorConnection monitor,
                   MonitorConnection::Connect(ctx, paths_.Container(container.id)));
  return monitor.Start(ctx);
}

void RuntimeService::SignalSandboxed(const Container& container, int signal) {
  // By the runtime, which takes a while: neither here nor under a lease.
  const absl::Status posted = gc_.Post([this, id = container.id, signal] {
    const base::LogField field("container", id.str());
    const ContainerRef current = registry_->FindContainer(id);
    if (!current) {
      return;
    }
    const Context ctx = Context::Detached(absl::Seconds(10));
    absl::Status sent;
    if (current->run.started_at() == 0) {
      absl::StatusOr<MonitorConnection> monitor =
          MonitorConnection::Connect(ctx, paths_.Container(id));
      sent = monitor.ok() ? monitor->GiveUp(ctx) : monitor.status();
    } else {
      sent =
          RuntimeOf(current->record)
              .Kill(ctx, id.str(), signal, signal == SIGKILL ? KillScope::kAll : KillScope::kInit);
    }
    if (!sent.ok() && !absl::IsFailedPrecondition(sent) && !absl::IsNotFound(sent)) {
      base::LogWarning("signal ", signal, ": ", base::ToStd(sent.message()));
    }
  });
  if (!posted.ok()) {
    base::LogWarning(base::ToStd(posted.message()));
  }
}

}  // namespace runtimeservice
