// The plan of one attachment: everything a plugin is told, fixed before the first one runs, so that
// DEL says the same as ADD did whatever changed in between.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/id.h"
#include "base/json.h"
#include "network/cni_config.h"
#include "network/cni_plugin.h"

namespace network {

struct PortMapping {
  int host_port = 0;  // Entries with 0 are left out.
  int container_port = 0;
  std::string protocol;  // "tcp", "udp" or "sctp" in any case; empty: tcp.
  std::string host_ip;
};

// A pod as the network sees it.
struct PodAttachment {
  base::PodId pod;
  std::string pod_namespace;
  std::string pod_name;
  std::string pod_uid;
  std::string netns_path;
  std::map<std::string, std::string> annotations;
  std::vector<PortMapping> port_mappings;
  std::vector<std::string> dns_servers;
  std::vector<std::string> dns_searches;
  std::vector<std::string> dns_options;
  std::string cgroup_path;  // The pod's cgroup, for plugins that ask for it; may be empty.
  std::string hostname;     // May be empty, as the next.
  std::vector<std::string> node_ranges;  // The node's ranges of pod addresses, in CIDR notation.
};

// The attachment to one network.
struct NetworkPlan {
  CniParameters parameters;
  base::Json capability_args;  // By capability; only those that a plugin of the network asks for.
  CniNetwork network;
};

// The plan to attach `pod` to `network` as its interface number `position`: eth0, eth1, … Port
// mappings and the node's address ranges belong to the first. INVALID_ARGUMENT when a name could
// forge CNI_ARGS, a port or a bandwidth annotation is malformed.
absl::StatusOr<NetworkPlan> MakePlan(const PodAttachment& pod, const CniNetwork& network,
                                     size_t position = 0);

// The plans of all networks of a pod as bytes to be stored, and back. ParsePlans never returns an
// empty list and fails with INVALID_ARGUMENT.
std::string SerialisePlans(const std::vector<NetworkPlan>& plans);
absl::StatusOr<std::vector<NetworkPlan>> ParsePlans(std::string_view bytes);

// The results of all networks as bytes to be stored, and back: one for each plan, null where there
// is none or it is damaged. Never fails: a DEL goes without.
std::string SerialiseResults(const std::vector<base::Json>& results);
std::vector<base::Json> ParseResults(std::string_view bytes, const std::vector<NetworkPlan>& plans);

// Stored plans and results for people: a list of {network, interface, result}; empty when the plans
// do not parse.
base::Json DescribeAttachments(std::string_view plans, std::string_view results);

// What plugin number `index` of a network gets on its standard input when it is about no pod.
base::Json NetworkInput(const CniNetwork& network, size_t index);

// What plugin number `index` gets on its standard input; `previous` is null when there is no
// previous result.
base::Json PluginInput(const NetworkPlan& plan, size_t index, const base::Json& previous);

// Bits per second of a Kubernetes quantity ("10M", "1.5Gi", "2e6"), rounded up; INVALID_ARGUMENT
// when it is malformed or not between 1k and 1P.
absl::StatusOr<int64_t> ParseBandwidth(std::string_view quantity);

}  // namespace network
