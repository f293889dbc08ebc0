#include "network/network_gc.h"

#include "base/log.h"
#include "base/strings.h"
#include "network/network_plan.h"

namespace network {

std::set<std::string> CollectNetworkGarbage(
    const base::Context& ctx, const CniPlugins& plugins,
    const std::vector<std::shared_ptr<const CniNetwork>>& networks,
    const std::vector<ValidAttachment>& valid) {
  base::Json attachments = base::Json::array();
  for (const ValidAttachment& attachment : valid) {
    attachments.push_back(
        {{"containerID", attachment.container_id}, {"ifname", attachment.ifname}});
  }
  std::set<std::string> collected;
  for (const std::shared_ptr<const CniNetwork>& network : networks) {
    if (!network->HasStatusAndGc() || network->disable_gc) {
      continue;
    }
    bool all = true;
    for (size_t i = 0; i < network->plugins.size(); ++i) {
      const std::string& type = network->plugins[i].type;
      base::Json input = NetworkInput(*network, i);
      // The specification's name, and the one that CNI's own library began with.
      input["cni.dev/valid-attachments"] = attachments;
      input["cni.dev/attachments"] = attachments;
      const absl::StatusOr<CniPlugins::Answer> answer =
          plugins.Run(ctx, CniCommand::kGc, type, {}, input);
      if (!answer.ok() || answer->error.code != 0) {
        all = false;
        base::LogWarning("network ", network->name, ": plugin ", type, ": GC: ",
                         answer.ok() ? answer->error.text : std::string(answer.status().message()));
      }
    }
    if (all) {
      collected.insert(network->name);
    }
  }
  return collected;
}

}  // namespace network
