// Garbage collection by plugins (CNI 1.1.0, section 2): they are told which attachments there are
// and release what belongs to no other.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/context.h"
#include "network/cni_config.h"
#include "network/cni_plugin.h"

namespace network {

// One attachment that is to stay.
struct ValidAttachment {
  std::string container_id;
  std::string ifname;
};

// Runs GC of the plugins of each network that knows it and does not forbid it (`disableGC`), in
// order. `valid` are the attachments of all networks: a plugin leaves alone what it does not know.
// The caller keeps ADD and DEL from running meanwhile. Errors are logged and the next plugin is
// run. Returns the names of the networks all of whose plugins succeeded.
std::set<std::string> CollectNetworkGarbage(
    const base::Context& ctx, const CniPlugins& plugins,
    const std::vector<std::shared_ptr<const CniNetwork>>& networks,
    const std::vector<ValidAttachment>& valid);

}  // namespace network
