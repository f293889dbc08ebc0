#include "runtimeservice/devices/cdi_edits.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;

constexpr uint32_t kModeBits = 07777;

const char* TypeOf(mode_t mode) {
  return S_ISBLK(mode) ? "b" : S_ISCHR(mode) ? "c" : S_ISFIFO(mode) ? "p" : "";
}

absl::Status Complete(CdiDeviceNode* node) {
  const std::string& path = node->host_path.empty() ? node->path : node->host_path;
  const bool whole = !node->type.empty() && (node->major != 0 || node->type == "p");
  struct stat facts = {};
  const bool there = stat(path.c_str(), &facts) == 0;
  if (!whole && !there) {
    return absl::FailedPreconditionError(base::ErrnoStatus(errno, path).message());
  }
  if (there && !node->file_mode.has_value()) {
    node->file_mode = facts.st_mode & kModeBits;
  }
  if (whole) {
    return absl::OkStatus();  // The vendor says all of it, also for a device that comes later.
  }
  const std::string type = TypeOf(facts.st_mode);
  if (type.empty() || (!node->type.empty() && (node->type == "u" ? "c" : node->type) != type)) {
    return absl::FailedPreconditionError(
        base::StrCat(path, " is not a device", node->type.empty() ? "" : " of type ", node->type));
  }
  node->type = type;
  if (type != "p") {
    node->major = major(facts.st_rdev);
    node->minor = minor(facts.st_rdev);
  }
  return absl::OkStatus();
}

// The name of "NAME=value".
std::string_view NameOf(std::string_view entry) { return entry.substr(0, entry.find('=')); }

void SetVariable(const std::string& entry, OrderedJson* env) {
  for (OrderedJson& existing : *env) {
    if (NameOf(existing.get_ref<const std::string&>()) == NameOf(entry)) {
      existing = entry;
      return;
    }
  }
  env->push_back(entry);
}

// Removes the elements of `list` whose member `key` is `value`.
void RemoveWhere(const char* key, const std::string& value, OrderedJson* list) {
  if (!list->is_array()) {
    *list = OrderedJson::array();
  }
  auto& elements = list->get_ref<OrderedJson::array_t&>();
  std::erase_if(elements, [&](const OrderedJson& element) {
    return element.contains(key) && element.at(key) == value;
  });
}

void AddDeviceNode(const CdiDeviceNode& node, const OrderedJson& user, OrderedJson* linux) {
  OrderedJson entry = {{"path", node.path}, {"type", node.type}};
  if (node.type != "p") {
    entry["major"] = node.major;
    entry["minor"] = node.minor;
  }
  if (node.file_mode.has_value()) {
    entry["fileMode"] = *node.file_mode & kModeBits;
  }
  // What the specification leaves open belongs to the container's user.
  const auto set_owner = [&](const char* key, const std::optional<uint32_t>& wanted) {
    const uint32_t own = user.value(key, uint32_t{0});
    if (wanted.has_value() || own != 0) {
      entry[key] = wanted.value_or(own);
    }
  };
  set_owner("uid", node.uid);
  set_owner("gid", node.gid);
  RemoveWhere("path", node.path, &(*linux)["devices"]);
  (*linux)["devices"].push_back(std::move(entry));
  if (node.type != "p" && node.permissions != "none") {
    (*linux)["resources"]["devices"].push_back(
        {{"allow", true},
         {"type", node.type == "b" ? "b" : "c"},
         {"major", node.major},
         {"minor", node.minor},
         {"access", node.permissions.empty() ? "rwm" : node.permissions}});
  }
}

bool HasUserNamespace(const OrderedJson& spec) {
  const auto& namespaces = spec.at("linux").at("namespaces");
  return std::any_of(namespaces.begin(), namespaces.end(),
                     [](const OrderedJson& entry) { return entry.at("type") == "user"; });
}

bool Has(const std::vector<std::string>& options, std::string_view wanted) {
  return std::find(options.begin(), options.end(), wanted) != options.end();
}

OrderedJson MountEntry(const CdiMount& mount, bool mapped) {
  std::vector<std::string> options = mount.options;
  const bool recursive = Has(options, "rbind");
  const bool bind = recursive || Has(options, "bind") || mount.type.empty() || mount.type == "bind";
  if (bind && !recursive && !Has(options, "bind")) {
    options.emplace_back("bind");
  }
  if (bind && mapped && !Has(options, "idmap") && !Has(options, "ridmap")) {
    options.emplace_back(recursive ? "ridmap" : "idmap");
  }
  return {{"destination", mount.container_path},
          {"type", mount.type.empty() ? "bind" : mount.type},
          {"source", mount.host_path},
          {"options", options}};
}

int64_t Depth(const OrderedJson& mount) {
  const std::string& path = mount.at("destination").get_ref<const std::string&>();
  int64_t names = 0;
  for (size_t i = 0; i < path.size(); ++i) {
    names += path[i] != '/' && (i == 0 || path[i - 1] == '/') ? 1 : 0;
  }
  return names;
}

void AddMounts(const std::vector<CdiMount>& mounts, OrderedJson* spec) {
  const bool mapped = HasUserNamespace(*spec);
  OrderedJson& list = (*spec)["mounts"];
  for (const CdiMount& mount : mounts) {
    RemoveWhere("destination", mount.container_path, &list);
    list.push_back(MountEntry(mount, mapped));
  }
  // Outer ones first: a mount must not cover what was mounted in it before. Those of one depth keep
  // their order.
  std::multimap<int64_t, OrderedJson> by_depth;
  for (OrderedJson& mount : list) {
    const int64_t depth = Depth(mount);
    by_depth.emplace(depth, std::move(mount));
  }
  list = OrderedJson::array();
  for (auto& [depth, mount] : by_depth) {
    list.push_back(std::move(mount));
  }
}

OrderedJson IntelRdtPart(const CdiIntelRdt& rdt) {
  OrderedJson part = OrderedJson::object();
  const auto set = [&part](const char* key, const std::string& value) {
    if (!value.empty()) {
      part[key] = value;
    }
  };
  set("closID", rdt.clos_id);
  set("l3CacheSchema", rdt.l3_cache_schema);
  set("memBwSchema", rdt.mem_bw_schema);
  if (!rdt.schemata.empty()) {
    part["schemata"] = rdt.schemata;
  }
  if (rdt.enable_monitoring) {
    part["enableMonitoring"] = true;
  }
  return part;
}

}  // namespace

absl::Status CompleteDeviceNodes(CdiEdits* edits) {
  for (CdiDeviceNode& node : edits->device_nodes) {
    RETURN_IF_ERROR(Complete(&node));
  }
  return absl::OkStatus();
}

absl::Status CheckCdiEdits(const CdiEdits& edits, const HandlerTraits& handler) {
  if (!edits.net_devices.empty() && !handler.net_devices) {
    return absl::FailedPreconditionError(
        "netDevices: the handler's runtime does not offer network devices");
  }
  if (edits.intel_rdt.has_value() && !handler.intel_rdt_schemata &&
      (!edits.intel_rdt->schemata.empty() || edits.intel_rdt->enable_monitoring)) {
    return absl::FailedPreconditionError(
        "intelRdt: the handler's runtime does not offer schemata and enableMonitoring");
  }
  return absl::OkStatus();
}

void ApplyCdiEdits(const CdiEdits& edits, OrderedJson* spec) {
  OrderedJson& process = (*spec)["process"];
  OrderedJson& linux = (*spec)["linux"];
  for (const std::string& entry : edits.env) {
    SetVariable(entry, &process["env"]);
  }
  for (const CdiDeviceNode& node : edits.device_nodes) {
    AddDeviceNode(node, process["user"], &linux);
  }
  for (const CdiNetDevice& device : edits.net_devices) {
    linux["netDevices"][device.host_interface] = {{"name", device.name}};
  }
  if (!edits.mounts.empty()) {
    AddMounts(edits.mounts, spec);
  }
  for (const CdiHook& hook : edits.hooks) {
    AddOciHook(hook.hook, hook.stage, spec);
  }
  if (edits.intel_rdt.has_value()) {
    (*spec)["linux"]["intelRdt"] = IntelRdtPart(*edits.intel_rdt);
  }
  for (const uint32_t gid : edits.additional_gids) {
    OrderedJson& gids = (*spec)["process"]["user"]["additionalGids"];
    if (gid != 0 && std::find(gids.begin(), gids.end(), gid) == gids.end()) {
      gids.push_back(gid);
    }
  }
}

}  // namespace runtimeservice
