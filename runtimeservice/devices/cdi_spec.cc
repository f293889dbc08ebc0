#include "runtimeservice/devices/cdi_spec.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <set>
#include <utility>

#include "base/json.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/yaml.h"

namespace runtimeservice {
namespace {

using base::Json;

// Oldest first.
constexpr std::string_view kVersions[] = {"0.3.0", "0.4.0", "0.5.0", "0.6.0",
                                          "0.7.0", "0.8.0", "1.0.0", "1.1.0"};

absl::Status Invalid(std::string_view why) { return absl::InvalidArgumentError(base::ToAbsl(why)); }

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsAlphanumeric(char c) { return IsLetter(c) || IsDigit(c); }

// Alphanumeric at both ends, with some of `inside` in between.
bool IsName(std::string_view name, std::string_view inside) {
  return !name.empty() && IsAlphanumeric(name.front()) && IsAlphanumeric(name.back()) &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return IsAlphanumeric(c) || inside.find(c) != std::string_view::npos;
         });
}

bool IsDeviceName(std::string_view name) { return IsName(name, "_-.:"); }

bool IsKind(std::string_view kind) {
  const size_t slash = std::min(kind.find('/'), kind.size());
  const std::string_view vendor = kind.substr(0, slash);
  const std::string_view cls = kind.substr(std::min(slash + 1, kind.size()));
  return IsName(vendor, "_-.") && IsLetter(vendor.front()) && vendor.size() <= 253 &&
         IsName(cls, "_-.") && IsLetter(cls.front()) && cls.size() <= 63;
}

// Numbers and truth values count as text where text is wanted: `name: 0` is a device's name to
// those who write YAML by hand.
absl::StatusOr<std::string> Text(const Json& object, std::string_view key) {
  const Json& value = base::JsonMember(object, key);
  if (value.is_number_integer() || value.is_boolean()) {
    return base::DumpJson(value);
  }
  return base::JsonString(object, key);
}

absl::StatusOr<std::optional<uint32_t>> Number(const Json& object, std::string_view key) {
  const Json& value = base::JsonMember(object, key);
  if (value.is_null()) {
    return std::nullopt;
  }
  if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT32_MAX) {
    return Invalid(base::StrCat("\"", key, "\" is not a number of 32 bits"));
  }
  return static_cast<uint32_t>(value.get<uint64_t>());
}

absl::Status CheckMembers(const Json& object, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) {
    return Invalid(base::StrCat("an object is wanted, not ", object.type_name()));
  }
  for (const auto& [name, value] : object.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return Invalid(base::StrCat("unknown member \"", name, "\""));
    }
  }
  return absl::OkStatus();
}

// One document on its way to a CdiSpec, with the version that its members need.
class Reader {
 public:
  absl::StatusOr<CdiSpec> Spec(const Json& object) {
    RETURN_IF_ERROR(
        CheckMembers(object, {"cdiVersion", "kind", "annotations", "devices", "containerEdits"}));
    ASSIGN_OR_RETURN(std::string version, Text(object, "cdiVersion"));
    CdiSpec spec;
    ASSIGN_OR_RETURN(spec.kind, Text(object, "kind"));
    if (!IsKind(spec.kind)) {
      return Invalid(base::StrCat("\"kind\": \"", spec.kind, "\" is not vendor/class"));
    }
    if (spec.kind.find('.', spec.kind.find('/')) != std::string::npos) {
      Need("0.6.0", "a class with a dot");
    }
    RETURN_IF_ERROR(Annotations(object));
    absl::StatusOr<CdiEdits> edits = Edits(base::JsonMember(object, "containerEdits"));
    RETURN_IF_ERROR(base::Annotate(edits.status(), "containerEdits"));
    spec.edits = *std::move(edits);
    ASSIGN_OR_RETURN(spec.devices, List<CdiDevice>(object, "devices", &Reader::Device));
    if (spec.devices.empty()) {
      return Invalid("\"devices\": there is none");
    }
    std::set<std::string_view> names;
    for (const CdiDevice& device : spec.devices) {
      if (!names.insert(device.name).second) {
        return Invalid(base::StrCat("device \"", device.name, "\" is there twice"));
      }
    }
    RETURN_IF_ERROR(CheckVersion(version));
    return spec;
  }

 private:
  template <typename T>
  using Read = absl::StatusOr<T> (Reader::*)(const Json&);

  template <typename T>
  absl::StatusOr<std::vector<T>> List(const Json& object, std::string_view key, Read<T> read) {
    const Json& list = base::JsonMember(object, key);
    std::vector<T> result;
    if (list.is_null()) {
      return result;
    }
    if (!list.is_array()) {
      return Invalid(base::StrCat("\"", key, "\" is not a list"));
    }
    for (size_t i = 0; i < list.size(); ++i) {
      absl::StatusOr<T> element = (this->*read)(list[i]);
      RETURN_IF_ERROR(base::Annotate(element.status(), base::StrCat(key, "[", i, "]")));
      result.push_back(*std::move(element));
    }
    return result;
  }

  // Notes that a document with `what` declares at least `version`.
  void Need(std::string_view version, std::string_view what) {
    if (version > needed_version_) {
      needed_version_ = version;
      needed_by_ = what;
    }
  }

  absl::Status CheckVersion(std::string_view version) const {
    if (!version.empty() && version.front() == 'v') {
      version.remove_prefix(1);
    }
    if (std::find(std::begin(kVersions), std::end(kVersions), version) == std::end(kVersions)) {
      return Invalid(base::StrCat("\"cdiVersion\": \"", version, "\" is none of ",
                                  *std::begin(kVersions), " to ", *std::rbegin(kVersions)));
    }
    return version >= needed_version_
               ? absl::OkStatus()
               : Invalid(base::StrCat("\"cdiVersion\": ", version, " does not have ", needed_by_,
                                      ", which ", needed_version_, " has"));
  }

  // For people: nothing is done with them.
  absl::Status Annotations(const Json& object) {
    const Json& annotations = base::JsonMember(object, "annotations");
    if (!annotations.is_null() && !annotations.is_object()) {
      return Invalid("\"annotations\" is not an object");
    }
    if (!annotations.empty()) {
      Need("0.6.0", "annotations");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<CdiDevice> Device(const Json& object) {
    RETURN_IF_ERROR(CheckMembers(object, {"name", "annotations", "containerEdits"}));
    CdiDevice device;
    ASSIGN_OR_RETURN(device.name, Text(object, "name"));
    if (!IsDeviceName(device.name)) {
      return Invalid(base::StrCat("\"name\": \"", device.name, "\" is not a device's name"));
    }
    if (IsDigit(device.name.front())) {
      Need("0.5.0", "a name that begins with a digit");
    }
    RETURN_IF_ERROR(Annotations(object));
    absl::StatusOr<CdiEdits> edits = Edits(base::JsonMember(object, "containerEdits"));
    RETURN_IF_ERROR(base::Annotate(edits.status(), "containerEdits"));
    if (edits->empty()) {
      return Invalid("containerEdits: there is none");
    }
    device.edits = *std::move(edits);
    return device;
  }

  absl::StatusOr<CdiEdits> Edits(const Json& object) {
    CdiEdits edits;
    if (object.is_null()) {
      return edits;
    }
    // The specification's prose and its schema spell the last one differently.
    RETURN_IF_ERROR(CheckMembers(object, {"env", "deviceNodes", "netDevices", "mounts", "hooks",
                                          "intelRdt", "additionalGids", "additionalGIDs"}));
    ASSIGN_OR_RETURN(edits.env, base::JsonStrings(object, "env"));
    RETURN_IF_ERROR(CheckEnvironment(edits.env));
    ASSIGN_OR_RETURN(edits.device_nodes,
                     List<CdiDeviceNode>(object, "deviceNodes", &Reader::DeviceNode));
    ASSIGN_OR_RETURN(edits.net_devices,
                     List<CdiNetDevice>(object, "netDevices", &Reader::NetDevice));
    RETURN_IF_ERROR(CheckNetDevices(edits.net_devices));
    ASSIGN_OR_RETURN(edits.mounts, List<CdiMount>(object, "mounts", &Reader::Mount));
    ASSIGN_OR_RETURN(edits.hooks, List<CdiHook>(object, "hooks", &Reader::Hook));
    if (const Json& rdt = base::JsonMember(object, "intelRdt"); !rdt.is_null()) {
      absl::StatusOr<CdiIntelRdt> read = IntelRdt(rdt);
      RETURN_IF_ERROR(base::Annotate(read.status(), "intelRdt"));
      edits.intel_rdt = *std::move(read);
      Need("0.7.0", "intelRdt");
    }
    for (const char* key : {"additionalGids", "additionalGIDs"}) {
      ASSIGN_OR_RETURN(const std::vector<uint32_t> gids, List<uint32_t>(object, key, &Reader::Gid));
      edits.additional_gids.insert(edits.additional_gids.end(), gids.begin(), gids.end());
    }
    if (!edits.additional_gids.empty()) {
      Need("0.7.0", "additionalGids");
    }
    return edits;
  }

  absl::StatusOr<CdiDeviceNode> DeviceNode(const Json& object) {
    RETURN_IF_ERROR(CheckMembers(object, {"path", "hostPath", "type", "major", "minor", "fileMode",
                                          "permissions", "uid", "gid"}));
    CdiDeviceNode node;
    ASSIGN_OR_RETURN(node.path, Path(object, "path"));
    ASSIGN_OR_RETURN(node.host_path, Text(object, "hostPath"));
    if (!node.host_path.empty()) {
      RETURN_IF_ERROR(Path(object, "hostPath").status());
      Need("0.5.0", "hostPath");
    }
    ASSIGN_OR_RETURN(node.type, Text(object, "type"));
    if (!node.type.empty() && node.type != "b" && node.type != "c" && node.type != "u" &&
        node.type != "p") {
      return Invalid(base::StrCat("\"type\": \"", node.type, "\" is none of b, c, u and p"));
    }
    ASSIGN_OR_RETURN(const std::optional<uint32_t> major, Number(object, "major"));
    ASSIGN_OR_RETURN(const std::optional<uint32_t> minor, Number(object, "minor"));
    node.major = major.value_or(0);
    node.minor = minor.value_or(0);
    ASSIGN_OR_RETURN(node.file_mode, Number(object, "fileMode"));
    ASSIGN_OR_RETURN(node.uid, Number(object, "uid"));
    ASSIGN_OR_RETURN(node.gid, Number(object, "gid"));
    ASSIGN_OR_RETURN(node.permissions, Text(object, "permissions"));
    if (node.permissions != "none" &&
        node.permissions.find_first_not_of("rwm") != std::string::npos) {
      return Invalid(
          base::StrCat("\"permissions\": \"", node.permissions, "\" is not made of r, w and m"));
    }
    return node;
  }

  absl::StatusOr<CdiNetDevice> NetDevice(const Json& object) {
    RETURN_IF_ERROR(CheckMembers(object, {"hostInterfaceName", "name"}));
    Need("1.1.0", "netDevices");
    CdiNetDevice device;
    ASSIGN_OR_RETURN(device.host_interface, Text(object, "hostInterfaceName"));
    ASSIGN_OR_RETURN(device.name, Text(object, "name"));
    if (device.host_interface.empty() || device.name.empty()) {
      return Invalid("\"hostInterfaceName\" and \"name\" must not be empty");
    }
    return device;
  }

  static absl::Status CheckNetDevices(const std::vector<CdiNetDevice>& devices) {
    std::set<std::string_view> hosts;
    std::set<std::string_view> names;
    for (const CdiNetDevice& device : devices) {
      if (!hosts.insert(device.host_interface).second || !names.insert(device.name).second) {
        return Invalid(base::StrCat("netDevices: \"", device.host_interface, "\" or \"",
                                    device.name, "\" is there twice"));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<CdiMount> Mount(const Json& object) {
    RETURN_IF_ERROR(CheckMembers(object, {"hostPath", "containerPath", "type", "options"}));
    CdiMount mount;
    ASSIGN_OR_RETURN(mount.host_path, Text(object, "hostPath"));
    if (mount.host_path.empty()) {
      return Invalid("\"hostPath\" is empty");
    }
    ASSIGN_OR_RETURN(mount.container_path, Path(object, "containerPath"));
    ASSIGN_OR_RETURN(mount.type, Text(object, "type"));
    if (!mount.type.empty()) {
      Need("0.4.0", "a mount's type");
    }
    ASSIGN_OR_RETURN(mount.options, base::JsonStrings(object, "options"));
    return mount;
  }

  absl::StatusOr<CdiHook> Hook(const Json& object) {
    RETURN_IF_ERROR(CheckMembers(object, {"hookName", "path", "args", "env", "timeout"}));
    CdiHook hook;
    ASSIGN_OR_RETURN(hook.stage, Text(object, "hookName"));
    if (!IsHookStage(hook.stage)) {
      return Invalid(base::StrCat("\"hookName\": \"", hook.stage, "\" is not a stage of hooks"));
    }
    ASSIGN_OR_RETURN(hook.hook, ReadOciHook(object));
    return hook;
  }

  absl::StatusOr<CdiIntelRdt> IntelRdt(const Json& object) {
    RETURN_IF_ERROR(CheckMembers(
        object, {"closID", "l3CacheSchema", "memBwSchema", "schemata", "enableMonitoring"}));
    CdiIntelRdt rdt;
    ASSIGN_OR_RETURN(rdt.clos_id, Text(object, "closID"));
    const bool plain = rdt.clos_id.size() < 4096 && rdt.clos_id != "." && rdt.clos_id != ".." &&
                       rdt.clos_id.find_first_of("/\n") == std::string::npos;
    if (!plain && rdt.clos_id != "/") {
      return Invalid("\"closID\" is not a plain name");
    }
    ASSIGN_OR_RETURN(rdt.l3_cache_schema, Text(object, "l3CacheSchema"));
    ASSIGN_OR_RETURN(rdt.mem_bw_schema, Text(object, "memBwSchema"));
    ASSIGN_OR_RETURN(rdt.schemata, base::JsonStrings(object, "schemata"));
    ASSIGN_OR_RETURN(rdt.enable_monitoring, base::JsonBool(object, "enableMonitoring"));
    if (!rdt.schemata.empty() || rdt.enable_monitoring) {
      Need("1.1.0", "intelRdt's schemata and enableMonitoring");
    }
    return rdt;
  }

  absl::StatusOr<uint32_t> Gid(const Json& value) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT32_MAX) {
      return Invalid("it is not a group's number");
    }
    return static_cast<uint32_t>(value.get<uint64_t>());
  }

  static absl::StatusOr<std::string> Path(const Json& object, std::string_view key) {
    ASSIGN_OR_RETURN(std::string path, Text(object, key));
    if (path.empty() || path.front() != '/' || path.find('\0') != std::string::npos) {
      return Invalid(base::StrCat("\"", key, "\": \"", path, "\" is not an absolute path"));
    }
    return path;
  }

  std::string_view needed_version_ = kVersions[0];
  std::string_view needed_by_;
};

template <typename T>
void AppendTo(std::vector<T>* target, const std::vector<T>& source) {
  target->insert(target->end(), source.begin(), source.end());
}

}  // namespace

bool CdiEdits::empty() const {
  return env.empty() && device_nodes.empty() && net_devices.empty() && mounts.empty() &&
         hooks.empty() && !intel_rdt.has_value() && additional_gids.empty();
}

void CdiEdits::Append(const CdiEdits& other) {
  AppendTo(&env, other.env);
  AppendTo(&device_nodes, other.device_nodes);
  AppendTo(&net_devices, other.net_devices);
  AppendTo(&mounts, other.mounts);
  AppendTo(&hooks, other.hooks);
  if (other.intel_rdt.has_value()) {
    intel_rdt = other.intel_rdt;
  }
  AppendTo(&additional_gids, other.additional_gids);
}

absl::StatusOr<CdiSpec> ParseCdiSpec(std::string_view text, CdiFormat format) {
  const absl::StatusOr<Json> document = format == CdiFormat::kJson
                                            ? base::ParseJson(text, base::DuplicateMembers::kRefuse)
                                            : base::ParseYaml(text);
  RETURN_IF_ERROR(document.status());
  return Reader().Spec(*document);
}

absl::Status CheckCdiDeviceName(std::string_view name) {
  const size_t equals = std::min(name.find('='), name.size());
  return IsKind(name.substr(0, equals)) && equals < name.size() &&
                 IsDeviceName(name.substr(equals + 1))
             ? absl::OkStatus()
             : Invalid(base::StrCat("\"", name, "\" is not vendor/class=name"));
}

}  // namespace runtimeservice
