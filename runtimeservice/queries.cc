// Status and lists of pods and containers: answered from the last committed state, without leases.
#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/signals.h"
#include "runtimeservice/spec/resource_update.h"

namespace runtimeservice {
namespace {

template <typename Map>
bool HasLabels(const Map& labels, const Map& wanted) {
  for (const auto& [name, value] : wanted) {
    const auto found = labels.find(name);
    if (found == labels.end() || found->second != value) {
      return false;
    }
  }
  return true;
}

bool StartsWith(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

bool Listed(const Container& container) {
  return !container.record.infra() && container.record.state() != state::ContainerRecord::CREATING;
}

// One whose removal failed half-way is listed, so that somebody can ask again.
bool Listed(const Pod& pod) {
  return pod.record.state() != state::PodRecord::CREATING && !pod.record.only_detach_owed();
}

cri::ImageSpec ImageOf(const Container& container) {
  cri::ImageSpec image = container.record.config().image();
  if (!image.user_specified_image().empty()) {
    image.set_image(image.user_specified_image());
  }
  return image;
}

cri::Container ContainerItem(const Container& container) {
  const cri::ContainerConfig& config = container.record.config();
  cri::Container item;
  item.set_id(container.id.str());
  item.set_pod_sandbox_id(container.pod.str());
  *item.mutable_metadata() = config.metadata();
  *item.mutable_image() = ImageOf(container);
  item.set_image_ref(container.record.image_ref());
  item.set_image_id(container.record.image_id());
  item.set_state(container.CriState());
  item.set_created_at(container.record.created_at());
  *item.mutable_labels() = config.labels();
  *item.mutable_annotations() = config.annotations();
  return item;
}

// Exit code, reason and message (cri-semantics: container life cycle).
void DescribeExit(const Container& container, bool unknown, cri::ContainerStatus* status) {
  const ExitRecord& exit = *container.exit;
  status->set_finished_at(
      std::max({absl::ToUnixNanos(exit.time), status->started_at(), int64_t{1}}));
  status->set_exit_code(exit.code);
  if (!container.run.start_error().empty()) {
    status->set_exit_code(128);
    status->set_reason("StartError");
    status->set_message(container.run.start_error());
  } else if (exit.oom_kills > 0) {
    status->set_reason("OOMKilled");
  } else if (exit.code == 0) {
    status->set_reason("Completed");
  } else {
    status->set_reason(unknown ? "Unknown" : "Error");
  }
}

}  // namespace

cri::ContainerStatus RuntimeService::StatusOf(const Container& container) const {
  const cri::ContainerConfig& config = container.record.config();
  cri::ContainerStatus status;
  status.set_id(container.id.str());
  *status.mutable_metadata() = config.metadata();
  status.set_state(container.CriState());
  status.set_created_at(container.record.created_at());
  if (container.run.start_error().empty()) {
    status.set_started_at(container.run.started_at() != 0 ? container.run.started_at()
                                                          : container.record.end().started_at());
  }
  if (container.exit.has_value()) {
    // Nobody saw it end: its monitor was killed, or the machine went down.
    const bool unknown = container.run.lost_at() != 0 ||
                         (container.record.boot_id() != boot_id_ && !container.record.has_end());
    DescribeExit(container, unknown, &status);
  }
  *status.mutable_image() = ImageOf(container);
  status.set_image_ref(container.record.image_ref());
  status.set_image_id(container.record.image_id());
  *status.mutable_labels() = config.labels();
  *status.mutable_annotations() = config.annotations();
  *status.mutable_mounts() = config.mounts();
  for (const state::ImageVolume& volume : container.record.image_volumes()) {
    if (volume.mount() < status.mounts_size()) {
      status.mutable_mounts(volume.mount())->mutable_image()->set_image_ref(volume.image_id());
    }
  }
  status.set_log_path(container.record.log_path());
  if (config.linux().has_resources() || container.run.has_resources()) {
    *status.mutable_resources()->mutable_linux() = EffectiveResources(container.Resources(), host_);
  }
  *status.mutable_user() = container.record.user();
  status.set_stop_signal(CriSignal(container.record.stop_signal()));
  return status;
}

absl::StatusOr<cri::ContainerStatusResponse> RuntimeService::ContainerStatus(
    const Context&, const cri::ContainerStatusRequest& request) {
  ASSIGN_OR_RETURN(const ContainerRef container,
                   registry_->ResolveContainer(request.container_id()));
  cri::ContainerStatusResponse response;
  *response.mutable_status() = StatusOf(*container);
  if (request.verbose()) {
    (*response.mutable_info())["info"] = ContainerInfo(*container);
  }
  return response;
}

absl::StatusOr<cri::ListContainersResponse> RuntimeService::ListContainers(
    const Context&, const cri::ListContainersRequest& request) {
  const cri::ContainerFilter& filter = request.filter();
  cri::ListContainersResponse response;
  for (const ContainerRef& container : registry_->Containers()) {
    if (Listed(*container) && StartsWith(container->id.str(), filter.id()) &&
        StartsWith(container->pod.str(), filter.pod_sandbox_id()) &&
        (!filter.has_state() || filter.state().state() == container->CriState()) &&
        HasLabels(container->record.config().labels(), filter.label_selector())) {
      *response.add_containers() = ContainerItem(*container);
    }
  }
  return response;
}

cri::PodSandbox RuntimeService::PodItem(const Pod& pod) const {
  const cri::PodSandboxConfig& config = pod.record.config();
  cri::PodSandbox item;
  item.set_id(pod.id.str());
  *item.mutable_metadata() = config.metadata();
  item.set_state(PodReady(pod) ? cri::SANDBOX_READY : cri::SANDBOX_NOTREADY);
  item.set_created_at(pod.record.created_at());
  *item.mutable_labels() = config.labels();
  *item.mutable_annotations() = config.annotations();
  item.set_runtime_handler(pod.record.runtime_handler());
  return item;
}

cri::PodSandboxStatus RuntimeService::PodStatus(const Pod& pod) const {
  const cri::PodSandboxConfig& config = pod.record.config();
  cri::PodSandboxStatus status;
  status.set_id(pod.id.str());
  *status.mutable_metadata() = config.metadata();
  status.set_state(PodReady(pod) ? cri::SANDBOX_READY : cri::SANDBOX_NOTREADY);
  status.set_created_at(pod.record.created_at());
  cri::PodSandboxNetworkStatus* network = status.mutable_network();
  for (int i = 0; i < pod.record.ips_size(); ++i) {
    if (i == 0) {
      network->set_ip(pod.record.ips(i));
    } else {
      network->add_additional_ips()->set_ip(pod.record.ips(i));
    }
  }
  *status.mutable_linux()->mutable_namespaces()->mutable_options() =
      config.linux().security_context().namespace_options();
  *status.mutable_labels() = config.labels();
  *status.mutable_annotations() = config.annotations();
  status.set_runtime_handler(pod.record.runtime_handler());
  return status;
}

absl::StatusOr<cri::PodSandboxStatusResponse> RuntimeService::PodSandboxStatus(
    const Context&, const cri::PodSandboxStatusRequest& request) {
  ASSIGN_OR_RETURN(const PodRef pod, registry_->ResolvePod(request.pod_sandbox_id()));
  if (!Listed(*pod)) {
    return absl::NotFoundError(base::StrCat("pod sandbox ", pod->id.str(), " is being removed"));
  }
  cri::PodSandboxStatusResponse response;
  *response.mutable_status() = PodStatus(*pod);
  for (const ContainerRef& container : registry_->ContainersOf(pod->id)) {
    if (Listed(*container)) {
      *response.add_containers_statuses() = StatusOf(*container);
    }
  }
  response.set_timestamp(absl::ToUnixNanos(absl::Now()));
  if (request.verbose()) {
    (*response.mutable_info())["info"] = PodInfo(*pod);
  }
  return response;
}

absl::StatusOr<cri::ListPodSandboxResponse> RuntimeService::ListPodSandbox(
    const Context&, const cri::ListPodSandboxRequest& request) {
  const cri::PodSandboxFilter& filter = request.filter();
  cri::ListPodSandboxResponse response;
  for (const PodRef& pod : registry_->Pods()) {
    if (!Listed(*pod) || !StartsWith(pod->id.str(), filter.id()) ||
        !HasLabels(pod->record.config().labels(), filter.label_selector())) {
      continue;
    }
    cri::PodSandbox item = PodItem(*pod);
    if (!filter.has_state() || filter.state().state() == item.state()) {
      *response.add_items() = std::move(item);
    }
  }
  return response;
}

}  // namespace runtimeservice
