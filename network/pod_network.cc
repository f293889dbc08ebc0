#include "network/pod_network.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace network {
namespace {

std::string StepName(const NetworkPlan& plan, size_t index, CniCommand command) {
  return base::StrCat("network ", plan.network.name, ": plugin ", plan.network.plugins[index].type,
                      ": ", CniCommandName(command));
}

}  // namespace

PodNetwork::PodNetwork(NetworkConfig config, const base::Launcher& launcher)
    : config_(std::move(config)),
      plugins_(config_.plugin_dirs, launcher),
      directory_(config_.conf_dir, config_.default_network, config_.additional_networks),
      turns_(config_.limits),
      status_(plugins_, config_.status_timing) {}

absl::StatusOr<std::string> PodNetwork::Prepare(const PodAttachment& pod) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const CniNetworks> present, directory_.Networks());
  std::vector<NetworkPlan> plans;
  for (const std::shared_ptr<const CniNetwork>& network : present->networks) {
    ASSIGN_OR_RETURN(NetworkPlan plan, MakePlan(pod, *network, plans.size()));
    plans.push_back(std::move(plan));
  }
  return SerialisePlans(plans);
}

absl::StatusOr<Attachment> PodNetwork::Attach(const base::Context& ctx, std::string_view plan_bytes,
                                              absl::Status* cleanup) {
  absl::Status unwanted;
  absl::Status& cleaned = cleanup != nullptr ? *cleanup : unwanted;
  cleaned = absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<NetworkPlan> plans, ParsePlans(plan_bytes));
  const std::string& container = plans[0].parameters.container_id;
  ASSIGN_OR_RETURN(const Turns::Turn turn, turns_.Take(ctx.WithTimeout(config_.attach_timeout),
                                                       Turns::Kind::kAttach, container));
  const base::Context limited = ctx.WithTimeout(config_.attach_timeout);

  std::vector<Progress> progress;
  std::vector<base::Json> results;
  Attachment attachment;
  absl::Status added;
  for (const NetworkPlan& plan : plans) {
    progress.emplace_back();
    added = AddPlugins(limited, plan, &progress.back());
    if (added.ok() && results.empty()) {
      absl::StatusOr<std::vector<std::string>> ips = AddressesOf(plan, progress.back().result);
      added = ips.status();
      attachment.ips = ips.value_or(std::vector<std::string>());
    }
    if (!added.ok()) {
      break;
    }
    results.push_back(progress.back().result);
  }
  if (added.ok()) {
    attachment.result = SerialiseResults(results);
    return attachment;
  }
  cleaned = UndoAttach(plans, progress);
  if (!cleaned.ok()) {
    base::LogWarning("pod ", container,
                     ": after a failed attach: ", base::ToStd(cleaned.message()));
  }
  return added;
}

absl::StatusOr<std::vector<std::string>> PodNetwork::AddressesOf(const NetworkPlan& plan,
                                                                 const base::Json& result) const {
  absl::StatusOr<std::vector<std::string>> ips =
      PodIps(result, plan.parameters.ifname, config_.ip_preference);
  if (ips.ok() && !ips->empty()) {
    return ips;
  }
  return absl::UnknownError(
      base::StrCat("network ", plan.network.name, ": ",
                   ips.ok() ? "the plugins gave the pod no address"
                            : base::StrCat("result: ", base::ToStd(ips.status().message()))));
}

absl::Status PodNetwork::UndoAttach(const std::vector<NetworkPlan>& plans,
                                    const std::vector<Progress>& progress) const {
  // The caller may be gone: what was done is undone all the same.
  const base::Context ctx = base::Context::Detached(config_.detach_timeout);
  absl::Status first_error;
  for (size_t i = progress.size(); i-- > 0;) {
    const bool whole = i + 1 < progress.size();  // Only the last one did not come through.
    first_error.Update(DeletePlugins(ctx, plans[i], progress[i].started,
                                     whole ? progress[i].result : base::Json(), OnError::kGoOn));
  }
  return first_error;
}

absl::Status PodNetwork::Detach(const base::Context& ctx, std::string_view plan_bytes,
                                std::string_view result_bytes, const std::string& netns_path) {
  ASSIGN_OR_RETURN(std::vector<NetworkPlan> plans, ParsePlans(plan_bytes));
  const std::vector<base::Json> results = ParseResults(result_bytes, plans);
  ASSIGN_OR_RETURN(const Turns::Turn turn,
                   turns_.Take(ctx.WithTimeout(config_.detach_timeout), Turns::Kind::kDetach,
                               plans[0].parameters.container_id));
  const base::Context limited = ctx.WithTimeout(config_.detach_timeout);
  // A pin without a namespace (after a reboot) must not be entered.
  const std::string netns = NamespaceInode(netns_path).ok() ? netns_path : "";
  absl::Status first_error;
  for (size_t i = plans.size(); i-- > 0;) {
    plans[i].parameters.netns = netns;
    first_error.Update(DeletePlugins(limited, plans[i], plans[i].network.plugins.size(), results[i],
                                     OnError::kStop));
  }
  return first_error;
}

absl::Status PodNetwork::Ready(std::string* complaint) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const CniNetworks> present, directory_.Networks());
  for (const std::shared_ptr<const CniNetwork>& network : present->networks) {
    for (const CniPluginConfig& plugin : network->plugins) {
      RETURN_IF_ERROR(base::Annotate(plugins_.Find(plugin.type).status(),
                                     base::StrCat("network ", network->name)));
    }
  }
  if (complaint != nullptr) {
    *complaint = present->complaint;
  }
  return status_.Last(present).status;
}

absl::StatusOr<std::set<std::string>> PodNetwork::CollectGarbage(
    const base::Context& ctx, const std::vector<std::string>& plans,
    const std::function<absl::StatusOr<std::vector<ValidAttachment>>()>& valid) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const CniNetworks> present, directory_.Networks());
  std::vector<std::shared_ptr<const CniNetwork>> networks = present->networks;
  std::set<std::string> names;
  for (const std::shared_ptr<const CniNetwork>& network : networks) {
    names.insert(network->name);
  }
  for (const std::string& bytes : plans) {
    for (NetworkPlan& plan : ParsePlans(bytes).value_or(std::vector<NetworkPlan>())) {
      if (names.insert(plan.network.name).second) {
        networks.push_back(std::make_shared<const CniNetwork>(std::move(plan.network)));
      }
    }
  }
  if (std::none_of(networks.begin(), networks.end(), [](const auto& network) {
        return network->HasStatusAndGc() && !network->disable_gc;
      })) {
    return std::set<std::string>();
  }
  ASSIGN_OR_RETURN(const Turns::Turn turn, turns_.TakeAll(ctx));
  ASSIGN_OR_RETURN(const std::vector<ValidAttachment> attachments, valid());
  return CollectNetworkGarbage(ctx.WithTimeout(config_.gc_timeout), plugins_, networks,
                               attachments);
}

absl::StatusOr<std::vector<ValidAttachment>> AttachmentsOf(std::string_view plan_bytes) {
  ASSIGN_OR_RETURN(const std::vector<NetworkPlan> plans, ParsePlans(plan_bytes));
  std::vector<ValidAttachment> attachments;
  for (const NetworkPlan& plan : plans) {
    attachments.push_back(
        {.container_id = plan.parameters.container_id, .ifname = plan.parameters.ifname});
  }
  return attachments;
}

bool AllNetworksIn(std::string_view plan_bytes, const std::set<std::string>& names) {
  const absl::StatusOr<std::vector<NetworkPlan>> plans = ParsePlans(plan_bytes);
  return plans.ok() && std::all_of(plans->begin(), plans->end(), [&](const NetworkPlan& plan) {
           return names.count(plan.network.name) != 0;
         });
}

absl::Status PodNetwork::AddPlugins(const base::Context& ctx, const NetworkPlan& plan,
                                    Progress* progress) const {
  for (size_t i = 0; i < plan.network.plugins.size(); ++i) {
    const std::string step = StepName(plan, i, CniCommand::kAdd);
    const std::string& type = plan.network.plugins[i].type;
    RETURN_IF_ERROR(base::Annotate(plugins_.Find(type).status(), step));
    progress->started = i + 1;
    absl::StatusOr<CniPlugins::Answer> answer = plugins_.Run(
        ctx, CniCommand::kAdd, type, plan.parameters, PluginInput(plan, i, progress->result));
    RETURN_IF_ERROR(base::Annotate(answer.status(), step));
    if (answer->error.code != 0) {
      const std::string message = base::StrCat(step, ": ", answer->error.text);
      return answer->error.code == kCniTryLater ? absl::UnavailableError(message)
                                                : absl::UnknownError(message);
    }
    absl::StatusOr<base::Json> result = ParseCniResult(answer->out, plan.network.cni_version);
    if (!result.ok()) {
      return absl::UnknownError(base::StrCat(step, ": ", base::ToStd(result.status().message())));
    }
    progress->result = *std::move(result);
  }
  return absl::OkStatus();
}

absl::Status PodNetwork::DeletePlugins(const base::Context& ctx, const NetworkPlan& plan,
                                       size_t count, const base::Json& result,
                                       OnError on_error) const {
  // DEL takes one since 0.4.0.
  const std::string& version = plan.network.cni_version;
  const base::Json previous = version == "0.3.0" || version == "0.3.1" ? base::Json() : result;
  absl::Status first_error;
  for (size_t i = count; i-- > 0;) {
    const absl::StatusOr<CniPlugins::Answer> answer =
        plugins_.Run(ctx, CniCommand::kDel, plan.network.plugins[i].type, plan.parameters,
                     PluginInput(plan, i, previous));
    absl::Status status = answer.status();
    if (answer.ok() && answer->error.code != 0 && answer->error.code != kCniUnknownContainer) {
      status = answer->error.code == kCniTryLater ? absl::UnavailableError(answer->error.text)
                                                  : absl::UnknownError(answer->error.text);
    }
    first_error.Update(base::Annotate(status, StepName(plan, i, CniCommand::kDel)));
    if (!first_error.ok() && on_error == OnError::kStop) {
      break;
    }
  }
  return first_error;
}

}  // namespace network
