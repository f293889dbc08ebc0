// What keeps networks clean besides the detach of each pod: garbage collection by plugins, and the
// detaches of pods whose record was lost.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/runtime_service.h"

namespace runtimeservice {
namespace {

// A node that never stops attaching and detaching collects at a later occasion.
constexpr absl::Duration kWaitForQuiet = absl::Minutes(10);

}  // namespace

void RuntimeService::RequestNetworkGc() {
  if (network_gc_wanted_.exchange(true)) {
    return;
  }
  const absl::Status posted = network_gc_.Post([this] {
    network_gc_wanted_ = false;
    CollectNetworkGarbage();
  });
  if (!posted.ok()) {
    network_gc_wanted_ = false;
  }
}

absl::StatusOr<std::vector<network::ValidAttachment>> RuntimeService::ValidAttachments() const {
  std::vector<network::ValidAttachment> valid;
  for (const PodRef& pod : registry_->Pods()) {
    const state::PodRecord::State now = pod->record.state();
    if (!pod->record.network_attached() ||
        (now != state::PodRecord::READY && now != state::PodRecord::CREATING)) {
      continue;
    }
    absl::StatusOr<std::vector<network::ValidAttachment>> own =
        network::AttachmentsOf(pod->record.network_plan());
    RETURN_IF_ERROR(base::Annotate(own.status(), base::StrCat("pod ", pod->id.str())));
    valid.insert(valid.end(), own->begin(), own->end());
  }
  return valid;
}

void RuntimeService::CollectNetworkGarbage() {
  std::vector<std::pair<base::PodId, std::string>> stuck;  // With their plans.
  std::vector<std::string> plans;
  for (const network::DetachDebts::Debt& debt : uses_.debts.List()) {
    const PodRef pod = CollectionHelps(debt) ? registry_->FindPod(debt.pod) : nullptr;
    if (pod) {
      stuck.emplace_back(pod->id, pod->record.network_plan());
      plans.push_back(pod->record.network_plan());
    }
  }
  const absl::StatusOr<std::set<std::string>> clean =
      uses_.network.CollectGarbage(Context(base::SteadyTime::Now() + kWaitForQuiet, network_gc_stop_), plans,
                                   [this] { return ValidAttachments(); });
  if (!clean.ok()) {
    if (!absl::IsFailedPrecondition(clean.status()) && !absl::IsCancelled(clean.status())) {
      base::LogWarning("network garbage collection: ", base::ToStd(clean.status().message()));
    }
    return;
  }
  network_gc_done_ = true;
  for (const auto& [pod, plan] : stuck) {
    if (network::AllNetworksIn(plan, *clean)) {
      base::LogWarning("pod ", pod.str(),
                       ": its network plugins collected what they kept of it, "
                       "the detach that always failed is no longer owed");
      uses_.debts.Forget(pod);
      DetachPaid(pod);
    }
  }
}

void RuntimeService::SalvageDetaches() {
  for (const auto& [id, bytes] : registry_->DamagedPods()) {
    const base::LogField field("pod", id.str());
    if (registry_->FindPod(id) == nullptr) {
      const absl::Status salvaged = SalvageDetach(id, bytes);
      if (!salvaged.ok()) {
        base::LogError("the network of a pod whose record is damaged: ",
                       base::ToStd(salvaged.message()));
        continue;  // The next start tries again.
      }
    }
    registry_->ForgetDamagedPod(id);
  }
}

absl::Status RuntimeService::SalvageDetach(const base::PodId& id, const std::string& bytes) {
  state::PodRecord damaged;
  const bool parsed = damaged.ParseFromString(bytes) && damaged.id() == id.str();
  if (parsed && damaged.network_plan().empty()) {
    return absl::OkStatus();  // A pod on the host's network.
  }
  Pod pod{.id = id, .record = {}};
  pod.record.set_id(id.str());
  pod.record.set_state(state::PodRecord::REMOVING);
  pod.record.set_created_at(absl::ToUnixNanos(absl::Now()));
  pod.record.set_network_attached(true);
  const absl::StatusOr<std::vector<network::ValidAttachment>> own =
      network::AttachmentsOf(damaged.network_plan());
  if (own.ok() && std::all_of(own->begin(), own->end(), [&](const auto& attachment) {
        return attachment.container_id == id.str();
      })) {
    pod.record.set_network_plan(damaged.network_plan());
    pod.record.set_network_result(damaged.network_result());
  } else {
    // Its id is what most plugins know it by.
    ASSIGN_OR_RETURN(*pod.record.mutable_network_plan(),
                     uses_.network.Prepare({.pod = id, .netns_path = paths_.Netns(id)}));
  }
  base::LogWarning("the pod's record was damaged: its network is detached by ",
                   own.ok() ? "what can be read of it" : "the present configuration");
  return registry_->PutPod(std::move(pod));
}

}  // namespace runtimeservice
