#include "network/network_plan.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "network/cni_result.h"

namespace network {
namespace {

constexpr int kPlanVersion = 1;     // A plan of one network.
constexpr int kSeveralVersion = 2;  // A list of such plans.
constexpr char kInterfacePrefix[] = "eth";
constexpr char kIngressAnnotation[] = "kubernetes.io/ingress-bandwidth";
constexpr char kEgressAnnotation[] = "kubernetes.io/egress-bandwidth";
constexpr int kMaxDigits = 18;  // Of a quantity; they fit into 60 bits.
constexpr int64_t kMinBandwidth = 1000;
constexpr int64_t kMaxBandwidth = 1'000'000'000'000'000;
// The convention for "no limit on bursts".
constexpr int64_t kBurst = std::numeric_limits<int32_t>::max();

absl::StatusOr<std::string> CniArgs(const PodAttachment& pod) {
  const std::pair<std::string_view, std::string_view> pairs[] = {
      {"K8S_POD_NAMESPACE", pod.pod_namespace},
      {"K8S_POD_NAME", pod.pod_name},
      {"K8S_POD_INFRA_CONTAINER_ID", pod.pod.str()},
      {"K8S_POD_UID", pod.pod_uid}};
  std::string args = "IgnoreUnknown=1";
  for (const auto& [name, value] : pairs) {
    const bool plain = std::all_of(value.begin(), value.end(), [](char c) {
      return c != ';' && c != '=' && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
    });
    if (!plain) {
      return absl::InvalidArgumentError(
          base::StrCat(name, " \"", value, "\" cannot be passed to network plugins"));
    }
    args += base::StrCat(";", name, "=", value);
  }
  return args;
}

absl::StatusOr<base::Json> PortMappings(const PodAttachment& pod) {
  base::Json list = base::Json::array();
  for (const PortMapping& mapping : pod.port_mappings) {
    if (mapping.host_port == 0) {
      continue;
    }
    const std::string protocol =
        mapping.protocol.empty() ? "tcp" : absl::AsciiStrToLower(mapping.protocol);
    if (mapping.host_port < 0 || mapping.host_port > 65535 || mapping.container_port < 1 ||
        mapping.container_port > 65535) {
      return absl::InvalidArgumentError(base::StrCat("port mapping ", mapping.host_port, " to ",
                                                     mapping.container_port, ": not a port"));
    }
    if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") {
      return absl::InvalidArgumentError(base::StrCat("port mapping ", mapping.host_port,
                                                     ": unknown protocol ", mapping.protocol));
    }
    list.push_back({{"hostPort", mapping.host_port},
                    {"containerPort", mapping.container_port},
                    {"protocol", protocol}});
    if (!mapping.host_ip.empty()) {
      list.back()["hostIP"] = mapping.host_ip;
    }
  }
  return list;
}

absl::Status AddBandwidth(const PodAttachment& pod, const char* annotation, const char* direction,
                          base::Json* bandwidth) {
  const auto found = pod.annotations.find(annotation);
  if (found == pod.annotations.end()) {
    return absl::OkStatus();
  }
  const absl::StatusOr<int64_t> rate = ParseBandwidth(found->second);
  RETURN_IF_ERROR(base::Annotate(rate.status(), base::StrCat("annotation ", annotation)));
  (*bandwidth)[base::StrCat(direction, "Rate")] = *rate;
  (*bandwidth)[base::StrCat(direction, "Burst")] = kBurst;
  return absl::OkStatus();
}

base::Json Dns(const PodAttachment& pod) {
  base::Json dns = base::Json::object();
  for (const auto& [key, values] :
       {std::pair("servers", &pod.dns_servers), std::pair("searches", &pod.dns_searches),
        std::pair("options", &pod.dns_options)}) {
    if (!values->empty()) {
      dns[key] = *values;
    }
  }
  return dns;
}

// The names by which the pod may be known besides its own.
base::Json Aliases(const PodAttachment& pod) {
  base::Json aliases = base::Json::array();
  for (const std::string& name : {pod.pod_name, pod.hostname}) {
    if (!name.empty() && std::find(aliases.begin(), aliases.end(), name) == aliases.end()) {
      aliases.push_back(name);
    }
  }
  return aliases;
}

base::Json IpRanges(const PodAttachment& pod) {
  base::Json sets = base::Json::array();
  for (const std::string& subnet : pod.node_ranges) {
    base::Json range = base::Json::object();
    range["subnet"] = subnet;
    sets.push_back(base::Json::array());
    sets.back().push_back(std::move(range));
  }
  return sets;
}

// All runtime arguments we have for `pod`; empty ones mean there are none.
absl::StatusOr<base::Json> CapabilityArgs(const PodAttachment& pod, size_t position) {
  base::Json bandwidth = base::Json::object();
  RETURN_IF_ERROR(AddBandwidth(pod, kIngressAnnotation, "ingress", &bandwidth));
  RETURN_IF_ERROR(AddBandwidth(pod, kEgressAnnotation, "egress", &bandwidth));
  ASSIGN_OR_RETURN(base::Json port_mappings, PortMappings(pod));
  base::Json args = {{"portMappings", std::move(port_mappings)},
                     {"bandwidth", std::move(bandwidth)},
                     {"dns", Dns(pod)},
                     {"aliases", Aliases(pod)},
                     {"ipRanges", IpRanges(pod)},
                     {"io.kubernetes.cri.pod-annotations", pod.annotations}};
  if (!pod.cgroup_path.empty()) {
    args["cgroupPath"] = pod.cgroup_path;
  }
  if (position > 0) {
    args.erase("portMappings");
    args.erase("ipRanges");
  }
  return args;
}

// A quantity split into its parts: mantissa * 10^exponent10 * 2^exponent2.
struct Quantity {
  int64_t mantissa = 0;
  int exponent10 = 0;
  int exponent2 = 0;
};

// Reads digits with at most one point. False when there is no digit or there are too many.
bool ReadMantissa(std::string_view* text, Quantity* quantity) {
  int digits = 0;
  bool point = false;
  while (!text->empty() && (absl::ascii_isdigit(static_cast<unsigned char>(text->front())) ||
                            (text->front() == '.' && !point))) {
    if (text->front() == '.') {
      point = true;
    } else if (++digits > kMaxDigits) {
      return false;
    } else {
      quantity->mantissa = quantity->mantissa * 10 + (text->front() - '0');
      quantity->exponent10 -= point ? 1 : 0;
    }
    text->remove_prefix(1);
  }
  return digits > 0;
}

// Reads "k", "Mi", "e6", …; false for anything else.
bool ReadSuffix(std::string_view suffix, Quantity* quantity) {
  constexpr std::pair<std::string_view, int> kDecimal[] = {
      {"n", -9}, {"u", -6}, {"m", -3}, {"", 0},   {"k", 3},
      {"M", 6},  {"G", 9},  {"T", 12}, {"P", 15}, {"E", 18}};
  constexpr std::pair<std::string_view, int> kBinary[] = {{"Ki", 10}, {"Mi", 20}, {"Gi", 30},
                                                          {"Ti", 40}, {"Pi", 50}, {"Ei", 60}};
  for (const auto& [name, exponent] : kDecimal) {
    if (suffix == name) {
      quantity->exponent10 += exponent;
      return true;
    }
  }
  for (const auto& [name, exponent] : kBinary) {
    if (suffix == name) {
      quantity->exponent2 += exponent;
      return true;
    }
  }
  if (suffix[0] != 'e' && suffix[0] != 'E') {
    return false;
  }
  suffix.remove_prefix(1);
  const bool negative = !suffix.empty() && suffix[0] == '-';
  if (!suffix.empty() && (suffix[0] == '-' || suffix[0] == '+')) {
    suffix.remove_prefix(1);
  }
  // Two digits reach beyond every bandwidth.
  if (suffix.empty() || suffix.size() > 2 ||
      !std::all_of(suffix.begin(), suffix.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return false;
  }
  const int exponent =
      suffix.size() == 1 ? suffix[0] - '0' : (suffix[0] - '0') * 10 + suffix[1] - '0';
  quantity->exponent10 += negative ? -exponent : exponent;
  return true;
}

// The value rounded up, or anything above kMaxBandwidth when it is above that.
int64_t RoundUp(const Quantity& quantity) {
  __extension__ typedef __int128 Wide;
  Wide value = quantity.mantissa;
  for (int i = 0; i < quantity.exponent2; ++i) {
    value *= 2;  // At most 2^60 * 2^60.
  }
  for (int i = quantity.exponent10; i > 0 && value <= kMaxBandwidth; --i) {
    value *= 10;
  }
  for (int i = quantity.exponent10; i < 0 && value > 1; ++i) {
    value = (value + 9) / 10;
  }
  return static_cast<int64_t>(std::min<Wide>(value, Wide{kMaxBandwidth} + 1));
}

base::Json PlanJson(const NetworkPlan& plan) {
  return {{"version", kPlanVersion},
          {"containerId", plan.parameters.container_id},
          {"netns", plan.parameters.netns},
          {"ifName", plan.parameters.ifname},
          {"cniArgs", plan.parameters.args},
          {"capabilityArgs", plan.capability_args},
          {"network", CniListJson(plan.network)}};
}

absl::StatusOr<NetworkPlan> PlanOf(const base::Json& object) {
  ASSIGN_OR_RETURN(const int64_t version, base::JsonInt(object, "version"));
  if (version != kPlanVersion) {
    return absl::InvalidArgumentError(base::StrCat("unknown version ", version));
  }
  NetworkPlan plan;
  ASSIGN_OR_RETURN(plan.parameters.container_id, base::JsonString(object, "containerId"));
  ASSIGN_OR_RETURN(plan.parameters.netns, base::JsonString(object, "netns"));
  ASSIGN_OR_RETURN(plan.parameters.ifname, base::JsonString(object, "ifName"));
  ASSIGN_OR_RETURN(plan.parameters.args, base::JsonString(object, "cniArgs"));
  plan.capability_args = base::JsonMember(object, "capabilityArgs");
  if (plan.parameters.container_id.empty() || !plan.capability_args.is_object()) {
    return absl::InvalidArgumentError("no container id or no arguments");
  }
  ASSIGN_OR_RETURN(plan.network, ParseCniListObject(base::JsonMember(object, "network")));
  return plan;
}

}  // namespace

absl::StatusOr<int64_t> ParseBandwidth(std::string_view quantity) {
  Quantity parsed;
  std::string_view rest = quantity;
  if (!ReadMantissa(&rest, &parsed) || !ReadSuffix(rest, &parsed)) {
    return absl::InvalidArgumentError(base::StrCat("\"", quantity, "\" is not a bandwidth"));
  }
  const int64_t value = RoundUp(parsed);
  if (value < kMinBandwidth || value > kMaxBandwidth) {
    return absl::InvalidArgumentError(
        base::StrCat("bandwidth \"", quantity, "\" is not between 1k and 1P"));
  }
  return value;
}

absl::StatusOr<NetworkPlan> MakePlan(const PodAttachment& pod, const CniNetwork& network,
                                     size_t position) {
  NetworkPlan plan;
  plan.parameters.container_id = pod.pod.str();
  plan.parameters.netns = pod.netns_path;
  plan.parameters.ifname = base::StrCat(kInterfacePrefix, position);
  ASSIGN_OR_RETURN(plan.parameters.args, CniArgs(pod));
  ASSIGN_OR_RETURN(const base::Json args, CapabilityArgs(pod, position));
  plan.capability_args = base::Json::object();
  for (const CniPluginConfig& plugin : network.plugins) {
    for (const std::string& capability : plugin.capabilities) {
      const base::Json& value = base::JsonMember(args, capability);
      if (!value.empty()) {
        plan.capability_args[capability] = value;
      }
    }
  }
  plan.network = network;
  return plan;
}

std::string SerialisePlans(const std::vector<NetworkPlan>& plans) {
  if (plans.size() == 1) {
    return base::DumpJson(PlanJson(plans[0]));
  }
  base::Json list = base::Json::array();
  for (const NetworkPlan& plan : plans) {
    list.push_back(PlanJson(plan));
  }
  return base::DumpJson(base::Json{{"version", kSeveralVersion}, {"plans", std::move(list)}});
}

absl::StatusOr<std::vector<NetworkPlan>> ParsePlans(std::string_view bytes) {
  const absl::StatusOr<base::Json> object = base::ParseJson(bytes);
  RETURN_IF_ERROR(base::Annotate(object.status(), "network plan"));
  ASSIGN_OR_RETURN(const int64_t version, base::JsonInt(*object, "version"));
  const base::Json one = base::Json::array({*object});
  const base::Json& list = version == kSeveralVersion ? base::JsonMember(*object, "plans") : one;
  if (!list.is_array() || list.empty()) {
    return absl::InvalidArgumentError("network plan without networks");
  }
  std::vector<NetworkPlan> plans;
  for (const base::Json& entry : list) {
    absl::StatusOr<NetworkPlan> plan = PlanOf(entry);
    RETURN_IF_ERROR(base::Annotate(plan.status(), "network plan"));
    plans.push_back(*std::move(plan));
  }
  return plans;
}

std::string SerialiseResults(const std::vector<base::Json>& results) {
  // One alone stays what it is: a plugin's result.
  return results.size() == 1 ? base::DumpJson(results[0]) : base::DumpJson(base::Json(results));
}

std::vector<base::Json> ParseResults(std::string_view bytes,
                                     const std::vector<NetworkPlan>& plans) {
  std::vector<base::Json> results(plans.size());
  const absl::StatusOr<base::Json> stored = base::ParseJson(bytes);
  for (size_t i = 0; stored.ok() && i < plans.size(); ++i) {
    const bool several = stored->is_array();
    if (several ? i >= stored->size() : i > 0) {
      break;
    }
    absl::StatusOr<base::Json> result =
        CheckCniResult(several ? (*stored)[i] : *stored, plans[i].network.cni_version);
    if (result.ok()) {
      results[i] = *std::move(result);
    }
  }
  return results;
}

base::Json DescribeAttachments(std::string_view plans, std::string_view results) {
  base::Json list = base::Json::array();
  const absl::StatusOr<std::vector<NetworkPlan>> parsed = ParsePlans(plans);
  if (!parsed.ok()) {
    return list;
  }
  const std::vector<base::Json> all = ParseResults(results, *parsed);
  for (size_t i = 0; i < parsed->size(); ++i) {
    list.push_back({{"network", (*parsed)[i].network.name},
                    {"interface", (*parsed)[i].parameters.ifname},
                    {"result", all[i]}});
  }
  return list;
}

base::Json NetworkInput(const CniNetwork& network, size_t index) {
  base::Json input = base::Json::object();
  for (const auto& [key, value] : network.plugins[index].config.items()) {
    if (key != "capabilities" && key != "prevResult" && key.rfind("cni.dev/", 0) != 0) {
      input[key] = value;
    }
  }
  input["cniVersion"] = network.cni_version;
  input["name"] = network.name;
  return input;
}

base::Json PluginInput(const NetworkPlan& plan, size_t index, const base::Json& previous) {
  const CniPluginConfig& plugin = plan.network.plugins[index];
  base::Json input = NetworkInput(plan.network, index);
  base::Json runtime_config = base::Json::object();
  for (const std::string& capability : plugin.capabilities) {
    const base::Json& value = base::JsonMember(plan.capability_args, capability);
    if (!value.is_null()) {
      runtime_config[capability] = value;
    }
  }
  if (!runtime_config.empty()) {
    input["runtimeConfig"] = std::move(runtime_config);
  }
  if (!previous.is_null()) {
    input["prevResult"] = previous;
  }
  return input;
}

}  // namespace network
