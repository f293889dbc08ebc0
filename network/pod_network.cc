#include "network/pod_network.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace network {
namespace {

// How often one who waits for another operation looks whether its own request was cancelled.
constexpr absl::Duration kTurnCheck = absl::Milliseconds(200);

std::string StepName(const NetworkPlan& plan, size_t index, CniCommand command) {
  return base::StrCat("network ", plan.network.name, ": plugin ", plan.network.plugins[index].type,
                      ": ", CniCommandName(command));
}

}  // namespace

// How far a chain of ADDs came.
struct PodNetwork::Progress {
  size_t started = 0;  // Plugins that may have left something.
  base::Json result;   // Of the last that succeeded; null before.
};

class PodNetwork::Turn {
 public:
  static absl::StatusOr<Turn> Take(const base::Context& ctx, PodNetwork* network,
                                   const std::string& container_id) {
    RETURN_IF_ERROR(base::Annotate(network->TakeTurn(ctx, container_id),
                                   "wait for another network operation of the pod"));
    return Turn(network, container_id);
  }
  Turn(Turn&& other) noexcept
      : network_(std::exchange(other.network_, nullptr)), container_id_(other.container_id_) {}
  Turn& operator=(Turn&& other) = delete;
  ~Turn() {
    if (network_ != nullptr) {
      network_->EndTurn(container_id_);
    }
  }

 private:
  Turn(PodNetwork* network, std::string container_id)
      : network_(network), container_id_(std::move(container_id)) {}

  PodNetwork* network_;
  const std::string container_id_;
};

PodNetwork::PodNetwork(NetworkConfig config, const base::Launcher& launcher)
    : config_(std::move(config)),
      plugins_(config_.plugin_dirs, launcher),
      directory_(config_.conf_dir, config_.default_network) {}

absl::StatusOr<std::string> PodNetwork::Prepare(const PodAttachment& pod) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const CniNetwork> network, directory_.Network());
  ASSIGN_OR_RETURN(const NetworkPlan plan, MakePlan(pod, *network));
  return SerialisePlan(plan);
}

absl::StatusOr<Attachment> PodNetwork::Attach(const base::Context& ctx, std::string_view plan_bytes,
                                              absl::Status* cleanup) {
  absl::Status unwanted;
  absl::Status& cleaned = cleanup != nullptr ? *cleanup : unwanted;
  cleaned = absl::OkStatus();
  ASSIGN_OR_RETURN(const NetworkPlan plan, ParsePlan(plan_bytes));
  const base::Context limited = ctx.WithTimeout(config_.attach_timeout);
  ASSIGN_OR_RETURN(const Turn turn, Turn::Take(limited, this, plan.parameters.container_id));

  Progress progress;
  absl::Status added = AddPlugins(limited, plan, &progress);
  absl::StatusOr<std::vector<std::string>> ips =
      PodIps(progress.result, plan.parameters.ifname, config_.ip_preference);
  if (added.ok() && ips.ok() && !ips->empty()) {
    return Attachment{.result = base::DumpJson(progress.result), .ips = *std::move(ips)};
  }
  if (added.ok()) {
    added = ips.ok()
                ? absl::UnknownError("the plugins gave the pod no address")
                : absl::UnknownError(base::StrCat("result: ", base::ToStd(ips.status().message())));
    added = base::Annotate(added, base::StrCat("network ", plan.network.name));
  }
  // The caller may be gone: what was done is undone all the same.
  cleaned = DeletePlugins(base::Context::Detached(config_.detach_timeout), plan, progress.started,
                          base::Json(), OnError::kGoOn);
  if (!cleaned.ok()) {
    base::LogWarning("pod ", plan.parameters.container_id,
                     ": after a failed attach: ", base::ToStd(cleaned.message()));
  }
  return added;
}

absl::Status PodNetwork::Detach(const base::Context& ctx, std::string_view plan_bytes,
                                std::string_view result_bytes, const std::string& netns_path) {
  ASSIGN_OR_RETURN(NetworkPlan plan, ParsePlan(plan_bytes));
  // A pin without a namespace (after a reboot) must not be entered.
  plan.parameters.netns = NamespaceInode(netns_path).ok() ? netns_path : "";
  base::Json result;
  if (!result_bytes.empty()) {
    absl::StatusOr<base::Json> parsed = ParseCniResult(result_bytes, plan.network.cni_version);
    if (parsed.ok() && plan.network.cni_version != "0.3.0" && plan.network.cni_version != "0.3.1") {
      result = *std::move(parsed);  // DEL takes one since 0.4.0.
    }
  }
  const base::Context limited = ctx.WithTimeout(config_.detach_timeout);
  ASSIGN_OR_RETURN(const Turn turn, Turn::Take(limited, this, plan.parameters.container_id));
  return DeletePlugins(limited, plan, plan.network.plugins.size(), result, OnError::kStop);
}

absl::Status PodNetwork::Ready() {
  ASSIGN_OR_RETURN(const std::shared_ptr<const CniNetwork> network, directory_.Network());
  for (const CniPluginConfig& plugin : network->plugins) {
    RETURN_IF_ERROR(base::Annotate(plugins_.Find(plugin.type).status(),
                                   base::StrCat("network ", network->name)));
  }
  return absl::OkStatus();
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
  absl::Status first_error;
  for (size_t i = count; i-- > 0;) {
    const absl::StatusOr<CniPlugins::Answer> answer =
        plugins_.Run(ctx, CniCommand::kDel, plan.network.plugins[i].type, plan.parameters,
                     PluginInput(plan, i, result));
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

absl::Status PodNetwork::TakeTurn(const base::Context& ctx, const std::string& container_id) {
  base::MutexLock lock(&mutex_);
  while (busy_.count(container_id) != 0) {
    RETURN_IF_ERROR(ctx.Check());
    turn_ended_.WaitUntil(&mutex_, std::min(ctx.deadline(), absl::Now() + kTurnCheck));
  }
  busy_.insert(container_id);
  return absl::OkStatus();
}

void PodNetwork::EndTurn(const std::string& container_id) {
  base::MutexLock lock(&mutex_);
  busy_.erase(container_id);
  turn_ended_.NotifyAll();
}

}  // namespace network
