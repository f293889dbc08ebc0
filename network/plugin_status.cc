#include "network/plugin_status.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "network/network_plan.h"

namespace network {

PluginStatus::PluginStatus(const CniPlugins& plugins, Timing timing)
    : plugins_(plugins), timing_(timing), lane_("plugin-status", 1, 1) {}

PluginStatus::~PluginStatus() { stop_->Cancel(); }

PluginStatus::Answer PluginStatus::Last(const std::shared_ptr<const CniNetworks>& networks) {
  const bool any = std::any_of(networks->networks.begin(), networks->networks.end(),
                               [](const auto& network) { return network->HasStatusAndGc(); });
  base::MutexLock lock(&mutex_);
  if (!any) {
    answer_ = Answer();
    return answer_;
  }
  if (!asking_ && answer_.asked < base::SteadyTime::Now() - timing_.period) {
    asking_ = lane_
                  .Post([this, networks] {
                    const base::SteadyTime asked = base::SteadyTime::Now();
                    absl::Status status = Ask(*networks);
                    if (stop_->cancelled()) {
                      return;
                    }
                    base::MutexLock relock(&mutex_);
                    if (status.message() != answer_.status.message()) {
                      base::LogWarning("network plugins: ",
                                       status.ok() ? "ready" : base::ToStd(status.message()));
                    }
                    answer_ = {.status = std::move(status), .asked = asked};
                    asking_ = false;
                  })
                  .ok();
  }
  return answer_;
}

absl::Status PluginStatus::Ask(const CniNetworks& networks) const {
  const base::Context ctx =
      base::Context(base::SteadyTime::InfiniteFuture(), stop_).WithTimeout(timing_.timeout);
  for (const std::shared_ptr<const CniNetwork>& network : networks.networks) {
    for (size_t i = 0; network->HasStatusAndGc() && i < network->plugins.size(); ++i) {
      const std::string& type = network->plugins[i].type;
      const absl::StatusOr<CniPlugins::Answer> answer =
          plugins_.Run(ctx, CniCommand::kStatus, type, {}, NetworkInput(*network, i));
      const int code = answer.ok() ? answer->error.code : 0;
      if (answer.ok() && code == 0) {
        continue;
      }
      return absl::FailedPreconditionError(base::StrCat(
          "network ", network->name, ": plugin ", type,
          ": STATUS: ", answer.ok() ? answer->error.text : std::string(answer.status().message()),
          code == kCniLimitedConnectivity ? " (pods that are attached may have lost connections)"
                                          : ""));
    }
  }
  return absl::OkStatus();
}

}  // namespace network
