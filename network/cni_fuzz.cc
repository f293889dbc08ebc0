// Everything here reads foreign bytes: configurations, results, errors, stored plans, quantities.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "network/cni_config.h"
#include "network/cni_result.h"
#include "network/netns.h"
#include "network/network_plan.h"

namespace {

void Check(bool ok) {
  if (!ok) {
    std::abort();
  }
}

void FuzzNetwork(const absl::StatusOr<network::CniNetwork>& network) {
  if (!network.ok()) {
    return;
  }
  const auto again = network::ParseCniListObject(network::CniListJson(*network));
  Check(again.ok() && again->plugins.size() == network->plugins.size());
  network::PodAttachment pod{.pod = base::PodId::Random()};
  pod.dns_servers = {"10.0.0.10"};
  const auto plan = network::MakePlan(pod, *network);
  Check(plan.ok());
  for (size_t i = 0; i < plan->network.plugins.size(); ++i) {
    Check(plan->network.plugins[i].type.find('/') == std::string::npos);
    Check(network::PluginInput(*plan, i, base::Json())["name"] == network->name);
  }
  Check(network::ParsePlans(network::SerialisePlans({*plan})).ok());
  Check(network::ParsePlans(network::SerialisePlans({*plan, *plan})).ok());
}

void FuzzResult(std::string_view text) {
  const auto result = network::ParseCniResult(text, "1.0.0");
  if (result.ok()) {
    const auto ips = network::PodIps(*result, "eth0", network::IpPreference::kIpv6);
    Check(!ips.ok() || ips->size() <= text.size());
  }
  const auto error = network::ParseCniError(text);
  Check(!error.ok() || (error->code > 0 && !error->text.empty()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  FuzzNetwork(network::ParseCniList(text));
  FuzzNetwork(network::ParseCniSinglePlugin(text));
  FuzzResult(text);
  const auto plans = network::ParsePlans(text);
  if (plans.ok()) {
    Check(network::ParsePlans(network::SerialisePlans(*plans)).ok());
    Check(network::ParseResults(text, *plans).size() == plans->size());
  }
  const auto bandwidth = network::ParseBandwidth(text);
  Check(!bandwidth.ok() || (*bandwidth >= 1000 && *bandwidth <= 1'000'000'000'000'000));
  const auto sysctl = network::SysctlPath(text);
  Check(!sysctl.ok() ||
        (sysctl->rfind("/proc/sys/", 0) == 0 && sysctl->find("/../") == std::string::npos));
  return 0;
}
