// StopContainer, and what happens when a container ends.
#include <signal.h>

#include <algorithm>
#include <future>
#include <utility>

#include "base/cgroup.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/requests.h"
#include "runtimeservice/runtime_service.h"

namespace runtimeservice {
namespace {

// What forks while it is killed needs some rounds; what sleeps in the kernel is killed again later,
// and must not keep the threads that others need.
constexpr absl::Duration kKillRest = absl::Seconds(1);

}  // namespace

void RuntimeService::StopContainer(const Context& ctx, const cri::StopContainerRequest& request,
                                   StopDone done) {
  const absl::StatusOr<ContainerRef> found = registry_->ResolveContainer(request.container_id());
  if (absl::IsNotFound(found.status())) {
    done(cri::StopContainerResponse());
    return;
  }
  if (!found.ok()) {
    done(found.status());
    return;
  }
  const base::ContainerId id = (*found)->id;
  const base::LogField field("container", id.str());
  ContainerRef container;
  {
    // For a moment only: a start that runs is waited for, the container's end is not.
    const absl::StatusOr<Leases::Lease> lease =
        leases_.Acquire(ctx, id.str(), Leases::Mode::kExclusive);
    if (!lease.ok()) {
      done(lease.status());
      return;
    }
    container = registry_->FindContainer(id);
    if (!container || container->CriState() != cri::CONTAINER_RUNNING) {
      done(cri::StopContainerResponse());
      return;
    }
    if (request.timeout() > 0) {
      SignalContainer(*container, container->record.stop_signal());
    }
  }
  const absl::Duration grace = absl::Seconds(std::max<int64_t>(request.timeout(), 0));
  exits_.Stop(
      ctx, id, base::SteadyTime::Now() + grace, [this, container] { KillContainer(*container); },
      [done = std::move(done)](const absl::Status& status) {
        done(status.ok() ? absl::StatusOr<cri::StopContainerResponse>(cri::StopContainerResponse())
                         : status);
      });
}

void RuntimeService::HandleExit(const base::ContainerId& id, absl::StatusOr<ExitRecord> exit) {
  if (exit.ok()) {
    ShowExit(id, *exit);
    return;
  }
  // The monitor itself was killed or its disk is full. Without it nobody reads the container's
  // output nor reaps it, so it must end; how it would have ended nobody knows.
  const base::LogField field("container", id.str());
  base::LogError("lost the monitor of a container: ", base::ToStd(exit.status().message()));
  const auto finish = [this, id] {
    const ContainerRef container = registry_->FindContainer(id);
    if (container) {
      const absl::Status killed =
          base::KillCgroup(Context::Detached(absl::Seconds(30)), container->record.cgroup());
      if (!killed.ok()) {
        base::LogError(base::ToStd(killed.message()));
      }
    }
    ShowExit(id, {.code = 255, .time = RecordLost(id)});
  };
  const absl::Status posted = gc_.Post(finish);
  if (!posted.ok() && !absl::IsCancelled(posted)) {  // At the daemon's end: the next one finds it.
    finish();
  }
}

absl::Time RuntimeService::RecordLost(const base::ContainerId& id) {
  const ContainerRef container = registry_->FindContainer(id);
  if (!container) {
    return absl::Now();
  }
  state::ContainerRunRecord run = container->run;
  if (run.lost_at() == 0) {
    run.set_lost_at(absl::ToUnixNanos(absl::Now()));
    const absl::Status put = registry_->PutRun(id, run);
    if (!put.ok()) {
      base::LogError(base::ToStd(put.message()));
    }
  }
  return absl::FromUnixNanos(run.lost_at());
}

void RuntimeService::ShowExit(const base::ContainerId& id, const ExitRecord& exit) {
  const base::LogField field("container", id.str());
  const ContainerRef container = registry_->FindContainer(id);
  const base::LogField pod_field("pod", container ? container->pod.str() : "");
  base::LogInfo("container ended with code ", exit.code);
  if (exit.dropped_lines != 0) {
    base::LogWarning(exit.dropped_lines, " lines of a container's log found no room on the disk");
  }
  registry_->SetExit(id, exit);
  exits_.Ended(id);
  const absl::Status posted = gc_.Post([this, id] { KeepExit(id); });
  if (!posted.ok() && !absl::IsCancelled(posted)) {  // At the daemon's end the next one keeps it.
    base::LogWarning("an exit will not outlive a reboot: ", base::ToStd(posted.message()));
  }
}

void RuntimeService::KeepExit(const base::ContainerId& id) {
  const absl::StatusOr<Leases::Lease> lease =
      leases_.Acquire(Context::Detached(absl::Minutes(1)), id.str(), Leases::Mode::kExclusive);
  const ContainerRef current = registry_->FindContainer(id);
  if (!lease.ok() || !current || current->record.state() != state::ContainerRecord::CREATED ||
      current->record.has_end() || current->run.lost_at() != 0 || !current->exit.has_value()) {
    return;
  }
  Container container = *current;
  state::ContainerEnd* end = container.record.mutable_end();
  end->set_code(container.exit->code);
  end->set_signal(container.exit->signal);
  end->set_oom_kills(container.exit->oom_kills);
  end->set_started_at(container.run.started_at());
  end->set_finished_at(absl::ToUnixNanos(container.exit->time));
  const absl::Status kept = registry_->PutContainer(std::move(container));
  if (!kept.ok()) {
    base::LogWarning("an exit will not outlive a reboot: ", base::ToStd(kept.message()));
  }
}

bool RuntimeService::HasOwnPidNamespace(const Container& container) const {
  const PodRef pod = registry_->FindPod(container.pod);
  return pod != nullptr &&
         EffectiveNamespaces(pod->record.config(), container.record.config()).pid() ==
             cri::CONTAINER;
}

void RuntimeService::SignalContainer(const Container& container, int signal) {
  if (container.record.sandboxed()) {
    SignalSandboxed(container, signal);
    return;
  }
  const absl::Status sent = exits_.Signal(container.id, signal);
  if (!sent.ok()) {
    base::LogWarning(base::ToStd(sent.message()));
  }
}

void RuntimeService::KillContainer(const Container& container) {
  SignalContainer(container, SIGKILL);
  KillRest(container);
}

void RuntimeService::HandleInitEnd(const base::ContainerId& id) {
  // An orphan that holds the output open would hold up the container's end as well.
  if (const ContainerRef container = registry_->FindContainer(id)) {
    KillRest(*container);
  }
}

void RuntimeService::KillRest(const Container& container) {
  // With a PID namespace of its own everything dies with its init; else the cgroup tells who.
  if (container.record.sandboxed() || HasOwnPidNamespace(container)) {
    return;
  }
  const std::string cgroup = container.record.cgroup();
  const absl::Status posted = gc_.Post([cgroup] {
    const absl::Status killed = base::KillCgroup(Context::Detached(kKillRest), cgroup);
    if (!killed.ok()) {
      base::LogWarning(base::ToStd(killed.message()));
    }
  });
  if (!posted.ok()) {
    base::LogWarning(base::ToStd(posted.message()));
  }
}

absl::Status RuntimeService::KillAndWait(const Context& ctx, const Container& container) {
  const auto ended = std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> end = ended->get_future();
  KillContainer(container);
  // The loop completes it at the deadline at the latest.
  exits_.Stop(
      ctx.WithTimeout(absl::Minutes(1)), container.id, base::SteadyTime::Now(),
      [this, container] { KillContainer(container); },
      [ended](const absl::Status& status) { ended->set_value(status); });
  return end.get();
}

}  // namespace runtimeservice
