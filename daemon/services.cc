#include "daemon/services.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/cgroup.h"
#include "base/files.h"
#include "base/json.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/systemd.h"
#include "daemon/config_checks.h"

namespace crispd {
namespace {

constexpr absl::Duration kLoopPatience = absl::Seconds(10);
constexpr uint32_t kUrlSeconds = 60;  // The kubelet's own streaming library has it so.

network::NetworkConfig NetworkOf(const Config& config) {
  return {.conf_dir = config.network_dir,
          .plugin_dirs = config.plugin_dirs,
          .default_network = config.cni_default_network,
          .additional_networks = config.cni_additional_networks,
          .netns_dir = config.netns_dir,
          .ip_preference = config.ip_pref == "ipv4"   ? network::IpPreference::kIpv4
                           : config.ip_pref == "ipv6" ? network::IpPreference::kIpv6
                                                      : network::IpPreference::kAsReturned};
}

// What curl in the worker knows proxies by.
std::vector<std::string> ProxyEnvironment() {
  std::vector<std::string> environment;
  for (const char* name : {"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY",
                           "all_proxy", "NO_PROXY", "no_proxy"}) {
    if (const char* value = getenv(name)) {
      environment.push_back(base::StrCat(name, "=", value));
    }
  }
  return environment;
}

// Of our own below the configured one; empty when none is configured.
std::string PullCgroupOf(const Config& config) {
  return config.pull_cgroup.empty() ? "" : base::StrCat(config.pull_cgroup, "/crisp-pulls");
}

// Makes a cgroup for our helpers, locks it against another daemon and ends what the last daemon's
// helpers still do in it: nobody waits for them any more.
absl::StatusOr<InstanceLock> TakeCgroup(const std::string& cgroup) {
  RETURN_IF_ERROR(base::MakeCgroup(cgroup));
  ASSIGN_OR_RETURN(InstanceLock lock,
                   InstanceLock::AcquireDirectory(base::CgroupDirectories(cgroup).front()));
  RETURN_IF_ERROR(base::KillCgroup(base::Context::Detached(absl::Seconds(30)), cgroup,
                                   base::CgroupFate::kKept));
  return lock;
}

std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

imageservice::RegistrySettings RegistriesOf(const Config& config) {
  imageservice::RegistrySettings registries;
  registries.files.paths = {config.registries_conf};
  if (!config.registries_conf_dir.empty()) {
    registries.files.paths.push_back(config.registries_conf_dir);
  }
  registries.files.alias_cache = "/var/cache/containers/short-name-aliases.conf";
  registries.files.short_name_mode = imageservice::ParseShortNameMode(config.short_name_mode);
  registries.insecure_registries = config.insecure_registries;
  registries.certificate_directories = {"/etc/containers/certs.d", "/etc/docker/certs.d"};
  registries.hosts_directories = config.registry_hosts_dirs;
  registries.auth.global_file = config.global_auth_file;
  registries.auth.default_files = imageservice::DefaultAuthFiles(Variable, geteuid());
  registries.auth.namespaced_directory = config.namespaced_auth_dir;
  registries.helpers.directories = config.credential_helper_dirs;
  registries.helpers.environment = ProxyEnvironment();
  const std::string home = Variable("HOME");
  registries.helpers.environment.push_back("HOME=" + (home.empty() ? "/root" : home));
  registries.policy_required = !config.signature_policy.empty();
  registries.policy_file =
      registries.policy_required ? config.signature_policy : "/etc/containers/policy.json";
  registries.policy_directory = config.signature_policy_dir;
  return registries;
}

imageservice::ImageConfig ImageOf(const Config& config) {
  imageservice::ImageConfig image;
  image.root = config.root;
  image.run_root = config.runroot;
  image.worker_path = config.pull_path;
  image.worker_environment = ProxyEnvironment();
  image.registries = RegistriesOf(config);
  image.pinned_images = config.pinned_images;
  image.limits.max_parallel_layers = static_cast<int>(config.max_parallel_layers);
  image.limits.max_parallel_ranges = static_cast<int>(config.max_parallel_ranges);
  image.limits.stall_timeout_seconds =
      static_cast<int>(std::min<int64_t>(config.pull_stall_timeout, 3600));
  image.limits.minimum_bytes_per_second = static_cast<uint64_t>(config.pull_minimum_rate);
  image.max_parallel_pulls = static_cast<int>(config.max_parallel_pulls);
  if (config.pull_progress_timeout > 0) {
    image.progress_timeout = absl::Seconds(config.pull_progress_timeout);
  }
  image.worker_cgroup = PullCgroupOf(config);
  return image;
}

// "nofile=1024:2048", checked by the configuration, as setrlimit(2) names it. -1 is unlimited.
runtimeservice::Ulimit ParseUlimit(const std::string& text) {
  const std::vector<std::string> parts =
      absl::StrSplit(text, absl::MaxSplits(absl::ByAnyChar("=:"), 2));
  int64_t soft = 0;
  int64_t hard = 0;
  (void)absl::SimpleAtoi(parts[1], &soft);
  (void)absl::SimpleAtoi(parts.back(), &hard);
  return {.type = base::StrCat("RLIMIT_", absl::AsciiStrToUpper(parts[0])),
          .soft = static_cast<uint64_t>(soft),
          .hard = static_cast<uint64_t>(hard)};
}

std::pair<std::string, std::string> ParseAssignment(const std::string& text) {
  const size_t equals = text.find('=');
  return {text.substr(0, equals), text.substr(equals + 1)};
}

absl::StatusOr<runtimeservice::SpecDefaults> DefaultsOf(const Config& config) {
  runtimeservice::SpecDefaults defaults;
  defaults.capabilities.clear();
  for (const std::string& name : config.default_capabilities) {
    ASSIGN_OR_RETURN(std::string capability, runtimeservice::ParseCapability(name));
    defaults.capabilities.push_back(std::move(capability));
  }
  defaults.env = config.default_env;
  for (const std::string& ulimit : config.default_ulimits) {
    defaults.ulimits.push_back(ParseUlimit(ulimit));
  }
  for (const std::string& sysctl : config.default_sysctls) {
    defaults.sysctls.insert(ParseAssignment(sysctl));
  }
  defaults.pids_limit = std::max<int64_t>(config.pids_limit, 0);
  defaults.read_only_rootfs = config.read_only;
  return defaults;
}

runtimeservice::DeviceConfig DevicesOf(const Config& config) {
  runtimeservice::DeviceConfig devices{
      .allowed_devices = config.allowed_devices,
      .ownership = config.device_ownership_from_security_context
                       ? runtimeservice::DeviceOwnership::kSecurityContext
                       : runtimeservice::DeviceOwnership::kHost,
      .cdi_spec_dirs = config.cdi_spec_dirs,
      .hooks_dirs = config.hooks_dirs};
  for (const std::string& text : config.additional_devices) {
    // The configuration has checked each.
    const absl::StatusOr<runtimeservice::DeviceRequest> request =
        runtimeservice::ParseDeviceRequest(text);
    if (request.ok()) {
      devices.additional_devices.push_back(*request);
    }
  }
  return devices;
}

// Checked by the configuration.
runtimeservice::DeclaredVolumes DeclaredVolumesOf(const Config& config) {
  return config.image_volumes == "bind"     ? runtimeservice::DeclaredVolumes::kBind
         : config.image_volumes == "ignore" ? runtimeservice::DeclaredVolumes::kIgnore
                                            : runtimeservice::DeclaredVolumes::kMkdir;
}

absl::StatusOr<runtimeservice::NodeMounts> NodeMountsOf(const Config& config) {
  runtimeservice::NodeMounts mounts{.timezone = config.timezone};
  if (!config.default_mounts_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, base::ReadFile(config.default_mounts_file));
    absl::StatusOr<std::vector<runtimeservice::ExtraMount>> defaults =
        runtimeservice::ParseMountsFile(text);
    if (!defaults.ok()) {
      return absl::Status(
          defaults.status().code(),
          base::StrCat(config.default_mounts_file, ":", base::ToStd(defaults.status().message())));
    }
    mounts.defaults = *std::move(defaults);
  }
  return mounts;
}

// What the configuration says of a handler.
runtimeservice::HandlerTraits ConfiguredTraits(const RuntimeHandler& handler) {
  runtimeservice::HandlerTraits traits{.allowed_annotations = handler.allowed_annotations,
                                       .disallowed_annotations = handler.disallowed_annotations,
                                       .sandboxed = handler.sandbox};
  traits.privileged_host_devices = !handler.privileged_without_host_devices;
  for (const std::string& annotation : handler.default_annotations) {
    traits.default_annotations.insert(ParseAssignment(annotation));
  }
  // The configuration checked it.
  traits.min_memory_bytes = ParseByteSize(handler.container_min_memory).value_or(0);
  return traits;
}

// Adds what the runtime itself says it can; an old one says nothing.
runtimeservice::HandlerTraits TraitsOf(runtimeservice::HandlerTraits traits,
                                       const runtimeservice::RuntimeConfig& config,
                                       const base::Launcher& launcher) {
  const runtimeservice::Runtime runtime(config, launcher);
  const base::Context ctx = base::Context::Detached(absl::Seconds(10));
  const absl::StatusOr<std::string> version = runtime.Version(ctx);
  if (!version.ok()) {
    base::LogWarning("runtime ", config.path, ": ", base::ToStd(version.status().message()));
    return traits;
  }
  const bool is_crun = version->rfind("crun ", 0) == 0;
  traits.compiled_seccomp = is_crun;
  traits.sandboxed = traits.sandboxed || version->rfind("runsc ", 0) == 0;
  traits.recursive_read_only = runtimeservice::KnowsRecursiveReadOnly(*version);
  // Id-mapped mounts are the daemon's work; joining by path both have had for long.
  traits.user_namespaces = traits.compiled_seccomp || version->rfind("runc ", 0) == 0;
  if (traits.min_memory_bytes == 0) {
    traits.min_memory_bytes = is_crun ? 512 << 10 : 12 << 20;
  }
  const absl::StatusOr<base::Json> features = runtime.Features(ctx);
  if (features.ok()) {
    const absl::StatusOr<std::vector<std::string>> options =
        base::JsonStrings(*features, "mountOptions");
    traits.oci_version = runtimeservice::SpecVersion(*features);
    traits.recursive_read_only =
        traits.recursive_read_only ||
        (options.ok() && std::find(options->begin(), options->end(), "rro") != options->end());
    const base::Json& linux = base::JsonMember(*features, "linux");
    traits.net_devices = base::JsonMember(base::JsonMember(linux, "netDevices"), "enabled") == true;
    traits.intel_rdt_schemata =
        base::JsonMember(base::JsonMember(linux, "intelRdt"), "schemata") == true;
  }
  base::LogInfo("runtime ", *version, " at ", config.path);
  return traits;
}

runtimeservice::StreamsConfig StreamsOf(const Config& config) {
  const auto number = [](int64_t value) { return static_cast<uint32_t>(value); };  // All checked.
  runtimeservice::StreamsConfig streams{
      .program = config.stream_path, .cgroup = config.stream_cgroup, .settings = {}};
  crisp::stream::Settings& settings = streams.settings;
  settings.set_cgroup(config.stream_cgroup);
  settings.set_address(config.stream_address);
  settings.set_port(number(config.stream_port));
  settings.set_tls(config.stream_enable_tls);
  settings.set_tls_certificate(config.stream_tls_cert);
  settings.set_tls_key(config.stream_tls_key);
  settings.set_tls_client_ca(config.stream_tls_ca);
  settings.set_tls_min_version(config.tls_min_version);
  for (const std::string& suite : config.tls_cipher_suites) {
    settings.add_tls_cipher_suites(suite);
  }
  settings.set_max_sessions(number(config.stream_max_sessions));
  settings.set_max_streams(number(config.stream_max_streams));
  settings.set_max_frame_bytes(number(config.stream_max_frame_size));
  settings.set_max_header_bytes(number(config.stream_max_header_size));
  settings.set_max_urls(number(config.stream_max_urls));
  settings.set_url_seconds(kUrlSeconds);
  settings.set_creation_seconds(number(config.stream_creation_timeout));
  settings.set_idle_seconds(number(config.stream_idle_timeout));
  settings.set_linger_seconds(number(config.stream_linger_timeout));
  return streams;
}

std::vector<std::string> RuntimeArguments(const RuntimeHandler& handler) {
  std::vector<std::string> arguments = handler.runtime_arguments;
  if (!handler.runtime_config_path.empty()) {
    arguments.push_back("--config=" + handler.runtime_config_path);
  }
  return arguments;
}

absl::StatusOr<runtimeservice::ServiceConfig> RuntimeOf(const Config& config,
                                                        const base::Launcher& launcher) {
  runtimeservice::ServiceConfig service{.root = config.root,
                                        .run_root = config.runroot,
                                        .monitor_path = config.conmon,
                                        .init_path = config.init_path,
                                        .pull_path = config.pull_path,
                                        .monitor_cgroup = config.conmon_cgroup,
                                        .cgroup_driver = config.cgroup_manager == "systemd"
                                                             ? crisp::state::SYSTEMD
                                                             : crisp::state::CGROUPFS,
                                        .version = CRISP_VERSION,
                                        .default_handler = config.default_runtime};
  if (service.cgroup_driver == crisp::state::SYSTEMD && !base::SystemdIsInit()) {
    return absl::FailedPreconditionError(
        "crisp.runtime.cgroup_manager: process 1 is not systemd: use \"cgroupfs\"");
  }
  ASSIGN_OR_RETURN(service.defaults, DefaultsOf(config));
  service.devices = DevicesOf(config);
  service.streams = StreamsOf(config);
  service.seccomp_profile = config.seccomp_profile;
  service.apparmor_profile = config.apparmor_profile;
  ASSIGN_OR_RETURN(service.node_mounts, NodeMountsOf(config));
  service.absent_mount_sources_to_reject = config.absent_mount_sources_to_reject;
  service.declared_volumes = DeclaredVolumesOf(config);
  service.selinux = config.selinux;
  service.hostnetwork_disable_selinux = config.hostnetwork_disable_selinux;
  for (const auto& [name, handler] : config.runtimes) {
    const runtimeservice::RuntimeConfig runtime{.path = handler.runtime_path,
                                                .root = handler.runtime_root,
                                                .extra_arguments = RuntimeArguments(handler)};
    service.handlers[name] = {.runtime = runtime,
                              .traits = ConfiguredTraits(handler),
                              .create_timeout = absl::Seconds(handler.container_create_timeout),
                              .monitor_cgroup = handler.monitor_cgroup,
                              .monitor_env = handler.monitor_env,
                              .probe = [runtime, &launcher](runtimeservice::HandlerTraits traits) {
                                return TraitsOf(std::move(traits), runtime, launcher);
                              }};
  }
  return service;
}

}  // namespace

Services::~Services() {
  if (debts != nullptr) {  // As it is when a start failed early.
    debts->Stop();         // Its callbacks use the runtime service.
  }
}

std::string Services::PullsJson() const {
  base::Json pulls = base::Json::array();
  for (const imageservice::PullProgress& pull : image->Progress()) {
    pulls.push_back({{"reference", pull.reference},
                     {"seconds", absl::ToInt64Seconds(absl::Now() - pull.started)},
                     {"bytesDone", pull.bytes_done},
                     {"bytesTotal", pull.bytes_total},
                     {"layersDone", pull.layers_done},
                     {"layersTotal", pull.layers_total},
                     {"stalled", pull.stalled}});
  }
  return base::DumpJson(pulls);
}

std::string Services::ImageProblemsJson() const {
  return base::DumpJson(base::Json(image->problems()));
}

absl::StatusOr<std::unique_ptr<Services>> BuildServices(const Config& config,
                                                        const base::Launcher& launcher) {
  auto services = std::make_unique<Services>();
  ASSIGN_OR_RETURN(services->work_cgroup, TakeCgroup(config.work_cgroup));
  if (!config.pull_cgroup.empty()) {
    ASSIGN_OR_RETURN(services->pull_cgroup, TakeCgroup(PullCgroupOf(config)));
  }
  services->network = std::make_unique<network::PodNetwork>(NetworkOf(config), launcher);
  ASSIGN_OR_RETURN(services->rootfs, imageservice::Rootfs::Open(config.root, config.runroot));
  ASSIGN_OR_RETURN(services->image,
                   ImageVerbs::Open(ImageOf(config), &launcher, services->rootfs.get()));
  services->debts = std::make_unique<network::DetachDebts>(*services->network);
  ASSIGN_OR_RETURN(runtimeservice::ServiceConfig runtime, RuntimeOf(config, launcher));
  ASSIGN_OR_RETURN(services->runtime,
                   RuntimeVerbs::Open(std::move(runtime), {.launcher = launcher,
                                                           .images = *services->image,
                                                           .rootfs = *services->rootfs,
                                                           .network = *services->network,
                                                           .debts = *services->debts}));
  services->image->ReleaseUnused();
  services->check_alive = [runtime_service = services->runtime.get()] {
    const absl::Duration lag = runtime_service->LoopLag();
    return lag < kLoopPatience ? absl::OkStatus()
                               : absl::UnavailableError(base::StrCat(
                                     "the event loop hangs for ", absl::ToInt64Seconds(lag), " s"));
  };
  return services;
}

}  // namespace crispd
