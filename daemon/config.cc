#include "daemon/config.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/systemd.h"
#include "daemon/config_keys.h"
#include "daemon/config_toml.h"

namespace crispd {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

absl::Status Invalid(std::string_view origin, std::string_view what) {
  return absl::InvalidArgumentError(base::StrCat(origin, ": ", what));
}

absl::Status UnknownKey(std::string_view origin, std::string_view kind, std::string_view dotted) {
  const std::string nearest = NearestKey(dotted);
  return Invalid(origin, base::StrCat("unknown ", kind, " \"", dotted, "\"",
                                      nearest.empty() ? "" : ": did you mean \"", nearest,
                                      nearest.empty() ? "" : "\"?"));
}

// Whether a handler's name can be a RuntimeClass handler and a directory.
bool IsHandlerName(std::string_view name) {
  return !name.empty() && name.size() <= 63 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.';
         });
}

// Applies one key of any table.
template <typename Owner>
absl::Status ApplyKey(std::span<const ConfigKey<Owner>> keys, std::string_view table,
                      std::string_view name, const std::string& dotted, const TomlSetting& setting,
                      const std::string& origin, Owner* owner, Config* config) {
  const auto key = std::find_if(keys.begin(), keys.end(), [&](const ConfigKey<Owner>& candidate) {
    return candidate.table == table && candidate.name == name;
  });
  const bool is_table = setting.value.index() == 0 && setting.foreign_type.empty();
  if (key == keys.end()) {
    return UnknownKey(origin, is_table ? "table" : "key", dotted);
  }
  if (setting.value.index() == 0) {
    return Invalid(origin, base::StrCat(dotted, ": want ", WantedType<Owner>(key->field), ", got ",
                                        is_table ? "a table" : setting.foreign_type));
  }
  absl::Status set = SetField(*key, std::get<ConfigValue>(setting.value), owner);
  if (!set.ok()) {
    return Invalid(origin, base::StrCat(dotted, ": ", set.message()));
  }
  config->origins[dotted] = origin;
  return absl::OkStatus();
}

// One of [….default_annotations], CRI-O's way to write them; also its header.
absl::Status ApplyDefaultAnnotation(const TomlSetting& setting, const std::string& origin,
                                    Config* config) {
  const std::string dotted = HandlerKey(setting.path[3], "default_annotations");
  config->origins.try_emplace(HandlerKey(setting.path[3], ""), origin);
  std::vector<std::string>& list = config->runtimes[setting.path[3]].default_annotations;
  if (setting.path.size() == 5) {
    list.clear();  // A later file's table takes the place of an earlier one's.
    return absl::OkStatus();
  }
  const auto* value = std::get_if<ConfigValue>(&setting.value);
  const auto* text = value == nullptr ? nullptr : std::get_if<std::string>(value);
  if (text == nullptr || setting.path[5].empty() ||
      setting.path[5].find('=') != std::string::npos) {
    return Invalid(origin, base::StrCat(dotted, ": want names with texts"));
  }
  list.push_back(base::StrCat(setting.path[5], "=", *text));
  config->origins[dotted] = origin;
  return absl::OkStatus();
}

absl::Status ApplyHandlerSetting(const TomlSetting& setting, const std::string& origin,
                                 Config* config) {
  const std::string& handler = setting.path[3];
  if (!IsHandlerName(handler)) {
    return Invalid(origin, base::StrCat("\"", handler, "\" is no name for a runtime handler"));
  }
  const bool is_table = setting.value.index() == 0 && setting.foreign_type.empty();
  if (setting.path.size() == 4) {
    if (!is_table) {
      return Invalid(origin, base::StrCat(HandlerKey(handler, ""), ": want a table"));
    }
    config->runtimes.try_emplace(handler);
    config->origins.try_emplace(HandlerKey(handler, ""), origin);
    return absl::OkStatus();
  }
  if (setting.path[4] == "default_annotations" && (is_table || setting.path.size() == 6)) {
    return ApplyDefaultAnnotation(setting, origin, config);
  }
  const std::vector<std::string> rest(setting.path.begin() + 4, setting.path.end());
  const std::string name = absl::StrJoin(rest, ".");
  config->origins.try_emplace(HandlerKey(handler, ""), origin);
  return ApplyKey(HandlerKeys(), "", name, HandlerKey(handler, name), setting, origin,
                  &config->runtimes[handler], config);
}

absl::Status ApplySetting(const TomlSetting& setting, const std::string& origin, Config* config) {
  if (setting.path.size() > 3 && setting.path[0] == "crisp" && setting.path[1] == "runtime" &&
      setting.path[2] == "runtimes") {
    return ApplyHandlerSetting(setting, origin, config);
  }
  const std::string dotted = absl::StrJoin(setting.path, ".");
  const bool is_table = setting.value.index() == 0 && setting.foreign_type.empty();
  if (IsConfigTable(dotted)) {
    return is_table ? absl::OkStatus() : Invalid(origin, base::StrCat(dotted, ": want a table"));
  }
  const std::string table = absl::StrJoin(setting.path.begin(), setting.path.end() - 1, ".");
  return ApplyKey(ConfigKeys(), table, setting.path.back(), dotted, setting, origin, config,
                  config);
}

enum class Presence { kRequired, kOptional };

absl::Status ApplyFile(const std::string& path, Presence presence, Config* config) {
  absl::StatusOr<std::string> text = base::ReadFile(path, kMaxFileBytes);
  if (absl::IsNotFound(text.status()) && presence == Presence::kOptional) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(base::Annotate(text.status(), "read the configuration"));
  config->files.push_back(path);
  ASSIGN_OR_RETURN(const std::vector<TomlSetting> settings, ParseToml(*text, path));
  for (const TomlSetting& setting : settings) {
    RETURN_IF_ERROR(ApplySetting(setting, base::StrCat(path, ":", setting.line), config));
  }
  return absl::OkStatus();
}

absl::Status ApplyDropIns(const std::string& directory, Config* config) {
  if (directory.empty()) return absl::OkStatus();
  absl::StatusOr<std::vector<std::string>> names = base::ListDirectory(directory);
  if (absl::IsNotFound(names.status())) return absl::OkStatus();
  RETURN_IF_ERROR(base::Annotate(names.status(), "read the configuration"));
  for (const std::string& name : *names) {
    if (name.ends_with(".conf") && name[0] != '.') {
      RETURN_IF_ERROR(ApplyFile(base::StrCat(directory, "/", name), Presence::kRequired, config));
    }
  }
  return absl::OkStatus();
}

absl::Status ApplyFlag(const FlagSetting& flag, Config* config) {
  for (const ConfigKey<Config>& key : ConfigKeys()) {
    if (key.Dotted() == flag.key) {
      absl::Status set = SetField(key, flag.value, config);
      if (!set.ok()) return Invalid(flag.flag, set.message().data());
      config->origins[flag.key] = flag.flag;
      return absl::OkStatus();
    }
  }
  return UnknownKey(flag.flag, "key", flag.key);
}

// The runtimes Debian has; both are tables a file can change.
std::map<std::string, RuntimeHandler, std::less<>> DefaultRuntimes() {
  return {
      {"crun", {.runtime_path = "/usr/bin/crun", .runtime_root = "", .allowed_annotations = {}}},
      {"runc", {.runtime_path = "/usr/sbin/runc", .runtime_root = "", .allowed_annotations = {}}}};
}

// Fills what the table of handler `name` leaves to the default runtime's.
void InheritDefaultRuntime(const std::string& name, Config* config) {
  const auto parent = config->runtimes.find(config->default_runtime);
  if (parent == config->runtimes.end() || parent->first == name) {
    return;
  }
  RuntimeHandler& handler = config->runtimes[name];
  const auto take = [&](const char* key, auto RuntimeHandler::* field) {
    if (config->Origin(HandlerKey(name, key)) == "default") {
      handler.*field = parent->second.*field;
      config->origins[HandlerKey(name, key)] = "inherit_default_runtime";
    }
  };
  take("runtime_path", &RuntimeHandler::runtime_path);
  take("runtime_type", &RuntimeHandler::runtime_type);
  take("runtime_config_path", &RuntimeHandler::runtime_config_path);
  take("runtime_arguments", &RuntimeHandler::runtime_arguments);
  take("sandbox", &RuntimeHandler::sandbox);
  take("container_create_timeout", &RuntimeHandler::container_create_timeout);
  take("container_min_memory", &RuntimeHandler::container_min_memory);
  take("privileged_without_host_devices", &RuntimeHandler::privileged_without_host_devices);
  take("monitor_cgroup", &RuntimeHandler::monitor_cgroup);
  take("monitor_env", &RuntimeHandler::monitor_env);
}

absl::Status CheckStreaming(const Config& config) {
  const std::string& cgroup = config.stream_cgroup;
  if (!cgroup.empty() && (cgroup == config.conmon_cgroup || cgroup == config.work_cgroup)) {
    return Invalid(config.Origin("crisp.runtime.stream_cgroup"),
                   "crisp.runtime.stream_cgroup: the cgroups of monitors and of helpers must be "
                   "others");
  }
  if (!config.stream_enable_tls) return absl::OkStatus();
  for (const auto& [name, value] : {std::pair("stream_tls_cert", &config.stream_tls_cert),
                                    std::pair("stream_tls_key", &config.stream_tls_key)}) {
    if (value->empty()) {
      return Invalid(config.Origin("crisp.api.stream_enable_tls"),
                     base::StrCat("crisp.api.stream_enable_tls: the key ", name, " is missing"));
    }
  }
  return absl::OkStatus();
}

// Fills the values whose default follows from another value, and checks what spans keys.
absl::Status Complete(Config* config) {
  if (config->listen.empty()) {
    config->listen = base::StrCat(config->runroot, "/crisp.sock");
  }
  for (auto& [name, handler] : config->runtimes) {
    if (handler.inherit_default_runtime) {
      InheritDefaultRuntime(name, config);
    }
    if (handler.runtime_path.empty()) {
      return Invalid(config->Origin(HandlerKey(name, "")),
                     base::StrCat(HandlerKey(name, ""), ": the key runtime_path is missing"));
    }
    if (handler.runtime_root.empty()) {
      handler.runtime_root = base::StrCat(config->runroot, "/runtime/", name);
    }
  }
  if (!config->runtimes.contains(config->default_runtime)) {
    const std::string names = absl::StrJoin(
        config->runtimes, ", ", [](std::string* out, const auto& entry) { *out += entry.first; });
    return Invalid(config->Origin("crisp.runtime.default_runtime"),
                   base::StrCat("crisp.runtime.default_runtime: \"", config->default_runtime,
                                "\" is none of the runtimes: ", names));
  }
  if (!config->work_cgroup.empty() && config->work_cgroup == config->conmon_cgroup) {
    return Invalid(config->Origin("crisp.runtime.work_cgroup"),
                   "crisp.runtime.work_cgroup: the monitors' cgroup must be another one");
  }
  return CheckStreaming(*config);
}

// systemd delegates the cgroup of crisp-monitors.service (contrib/) to us, so that what we make in
// it is nobody else's and outlives crisp.service.
void ResolveCgroups(Config* config) {
  if (config->cgroup_manager.empty()) {
    config->cgroup_manager = base::SystemdIsInit() ? "systemd" : "cgroupfs";
  }
  const bool systemd = config->cgroup_manager == "systemd";
  if (config->conmon_cgroup.empty()) {
    config->conmon_cgroup =
        systemd ? "/system.slice/crisp-monitors.service/monitors" : "/crisp-monitors";
  }
  if (config->work_cgroup.empty()) {
    config->work_cgroup = systemd ? "/system.slice/crisp-monitors.service/work" : "/crisp-work";
  }
  if (config->stream_cgroup.empty()) {
    config->stream_cgroup =
        systemd ? "/system.slice/crisp-monitors.service/streams" : "/crisp-streams";
  }
}

void FindHelper(std::string_view program, std::string_view name, std::string* path) {
  if (!path->empty()) return;
  const std::string beside = base::StrCat(program.substr(0, program.rfind('/') + 1), name);
  *path = access(beside.c_str(), X_OK) == 0 ? beside : base::StrCat("/usr/libexec/crisp/", name);
}

}  // namespace

std::string Config::Origin(std::string_view dotted_key) const {
  const auto origin = origins.find(dotted_key);
  return origin == origins.end() ? "default" : origin->second;
}

absl::StatusOr<Config> LoadConfig(const ConfigSources& sources) {
  Config config;
  config.runtimes = DefaultRuntimes();
  if (!sources.file.empty()) {
    RETURN_IF_ERROR(ApplyFile(
        sources.file, sources.file_required ? Presence::kRequired : Presence::kOptional, &config));
  }
  RETURN_IF_ERROR(ApplyDropIns(sources.directory, &config));
  for (const FlagSetting& flag : sources.flags) {
    RETURN_IF_ERROR(ApplyFlag(flag, &config));
  }
  RETURN_IF_ERROR(Complete(&config));
  return config;
}

void ResolveHost(std::string_view program, Config* config) {
  ResolveCgroups(config);
  FindHelper(program, "crisp-monitor", &config->conmon);
  FindHelper(program, "crisp-init", &config->init_path);
  FindHelper(program, "crisp-pull", &config->pull_path);
  FindHelper(program, "crisp-stream", &config->stream_path);
  for (auto handler = config->runtimes.begin(); handler != config->runtimes.end();) {
    std::string& path = handler->second.runtime_path;
    const bool by_default = config->Origin(HandlerKey(handler->first, "runtime_path")) == "default";
    if (by_default && path == "/usr/sbin/runc" && access(path.c_str(), X_OK) != 0) {
      path = "/usr/bin/runc";
    }
    const bool missing = access(path.c_str(), X_OK) != 0;
    // The default runtime stays listed, so that the status can say what is missing.
    if (missing && by_default && handler->first != config->default_runtime) {
      handler = config->runtimes.erase(handler);
      continue;
    }
    if (missing) {
      base::LogWarning("runtime handler ", handler->first, ": ", path, " cannot be executed");
    }
    ++handler;
  }
}

}  // namespace crispd
