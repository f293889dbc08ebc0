// A pod and its network: the plan, the attachment, and the detach that is owed until it succeeds.
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/runtime_service.h"
#include "runtimeservice/spec/pod_files.h"

namespace runtimeservice {
namespace {

constexpr absl::Duration kRetryTime = absl::Seconds(30);
constexpr absl::Duration kReleaseTime = absl::Minutes(2);
// More than that mean that plugins fail for good: no pod is attached that would add to them.
constexpr size_t kMostDebts = 1000;
// When a detach failed so often, plugins that can collect garbage are asked to. The namespace stays
// whatever happens: bridge forgets its masquerading rules when DEL comes without one.
constexpr int kCollectAfter = 5;

network::PodAttachment Attachment(const Pod& pod, const std::string& netns) {
  const cri::PodSandboxConfig& config = pod.record.config();
  network::PodAttachment attachment{.pod = pod.id,
                                    .pod_namespace = config.metadata().namespace_(),
                                    .pod_name = config.metadata().name(),
                                    .pod_uid = config.metadata().uid(),
                                    .netns_path = netns,
                                    .cgroup_path = pod.record.cgroup_parent(),
                                    .hostname = config.hostname()};
  attachment.annotations.insert(config.annotations().begin(), config.annotations().end());
  for (const cri::PortMapping& mapping : config.port_mappings()) {
    constexpr const char* kProtocols[] = {"tcp", "udp", "sctp"};
    const int protocol = mapping.protocol();
    attachment.port_mappings.push_back(
        {.host_port = mapping.host_port(),
         .container_port = mapping.container_port(),
         .protocol = protocol >= 0 && protocol < 3 ? kProtocols[protocol] : "",
         .host_ip = mapping.host_ip()});
  }
  const cri::DNSConfig& dns = config.dns_config();
  attachment.dns_servers.assign(dns.servers().begin(), dns.servers().end());
  attachment.dns_searches.assign(dns.searches().begin(), dns.searches().end());
  attachment.dns_options.assign(dns.options().begin(), dns.options().end());
  return attachment;
}

}  // namespace

absl::Status RuntimeService::PlanNetwork(Pod* pod) {
  if (pod->record.config().linux().security_context().namespace_options().network() == cri::NODE) {
    return absl::OkStatus();
  }
  const size_t owed = uses_.debts.Count();
  if (owed >= kMostDebts) {
    return absl::ResourceExhaustedError(base::StrCat(
        owed,
        " detaches are owed to network plugins that fail: no pod is attached until some "
        "succeed (see networkDebts in the verbose status)"));
  }
  network::PodAttachment attachment = Attachment(*pod, paths_.Netns(pod->id));
  attachment.node_ranges = pod_ranges_.Get();
  ASSIGN_OR_RETURN(*pod->record.mutable_network_plan(), uses_.network.Prepare(attachment));
  pod->record.set_network_attached(true);
  return absl::OkStatus();
}

absl::Status RuntimeService::AttachPod(const Context& ctx, Pod* pod) {
  if (pod->record.network_plan().empty()) {
    return absl::OkStatus();
  }
  absl::Status cleanup;
  absl::StatusOr<network::Attachment> attachment =
      uses_.network.Attach(ctx, pod->record.network_plan(), &cleanup);
  if (!attachment.ok()) {
    pod->record.set_network_attached(!cleanup.ok());
    if (!cleanup.ok()) {
      OweDetach(*pod, base::ToStd(cleanup.message()), network::DetachDebts::FirstTry::kLater);
    }
    return base::Annotate(attachment.status(), "attach the pod to the network");
  }
  pod->record.set_network_result(attachment->result);
  for (const std::string& ip : attachment->ips) {
    pod->record.add_ips(ip);
  }
  uses_.debts.Hurry();
  return absl::OkStatus();
}

void RuntimeService::DetachPod(const Context& ctx, Pod* pod) {
  // What is owed is retried in the background: a plugin that hangs holds one call up, not each.
  if (!pod->record.network_attached() || uses_.debts.Has(pod->id)) {
    return;
  }
  const absl::Status detached = uses_.network.Detach(
      ctx, pod->record.network_plan(), pod->record.network_result(), paths_.Netns(pod->id));
  if (detached.ok()) {
    pod->record.set_network_attached(false);
    uses_.debts.Hurry();
    return;
  }
  base::LogWarning("the network keeps the pod for now: ", base::ToStd(detached.message()));
  OweDetach(*pod, base::ToStd(detached.message()), network::DetachDebts::FirstTry::kLater);
}

void RuntimeService::OweDetach(const Pod& pod, std::string_view cause,
                               network::DetachDebts::FirstTry first) {
  uses_.debts.Add({.pod = pod.id,
                   .plan = pod.record.network_plan(),
                   .result = pod.record.network_result(),
                   .netns_path = paths_.Netns(pod.id),
                   .done =
                       [this, id = pod.id] {
                         DetachPaid(id);
                         RequestNetworkGc();
                       },
                   .failed =
                       [this](int attempts) {
                         if (attempts >= kCollectAfter) {
                           RequestNetworkGc();
                         }
                       },
                   .cause = std::string(cause),
                   .first = first});
}

bool RuntimeService::CollectionHelps(const network::DetachDebts::Debt& debt) {
  return debt.attempts >= kCollectAfter;
}

void RuntimeService::DetachPaid(const base::PodId& id) {
  const base::LogField field("pod", id.str());
  const Context ctx = Context::Detached(kReleaseTime);
  const absl::StatusOr<Leases::Lease> lease =
      leases_.Acquire(ctx, id.str(), Leases::Mode::kExclusive);
  const PodRef current = registry_->FindPod(id);
  const auto again = [&] {
    loop_->At(base::SteadyTime::Now() + kRetryTime,
              [this, id] { gc_.Post([this, id] { DetachPaid(id); }).IgnoreError(); });
  };
  if (!lease.ok()) {
    again();
    return;
  }
  if (!current) {
    return;
  }
  Pod pod = *current;
  pod.record.set_network_attached(false);
  registry_->ShowPod(pod);
  const absl::Status status = pod.record.state() == state::PodRecord::REMOVING
                                  ? DiscardPod(ctx, std::move(pod))
                                  : network::UnpinNamespace(paths_.Netns(id));
  if (!status.ok()) {
    base::LogError("after a late detach: ", base::ToStd(status.message()));
    again();
  }
}

}  // namespace runtimeservice
