// The configuration: /etc/crisp/crisp.conf, its drop-ins and the command line, merged and checked.
// Names of tables and keys are CRI-O's (crio.conf(5)) where the meaning is the same.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

// Not `daemon`, like the folder: that is a function of <unistd.h>.
namespace crispd {

// [crisp.runtime.runtimes.NAME]: one OCI runtime.
struct RuntimeHandler {
  std::string runtime_path;
  std::string runtime_root;  // Empty in a file: RUNROOT/runtime/NAME.
  std::string runtime_type = "oci";
  std::string runtime_config_path;
  std::vector<std::string> runtime_arguments;
  bool inherit_default_runtime = false;
  bool sandbox = false;
  std::vector<std::string> allowed_annotations;
  std::vector<std::string> disallowed_annotations;
  std::vector<std::string> default_annotations;  // "NAME=VALUE".
  bool privileged_without_host_devices = false;
  int64_t container_create_timeout = 60;  // Seconds.
  std::string container_min_memory;       // "12MiB"; empty: what is known of the runtime.
  std::string monitor_cgroup;             // Empty: conmon_cgroup.
  std::vector<std::string> monitor_env;
};

// Every value crisp runs with. Plain data; config_keys.cc says what each means and may be.
struct Config {
  // [crisp]
  std::string root = "/var/lib/crisp";
  std::string runroot = "/run/crisp";

  // [crisp.api]
  std::string listen;
  int64_t grpc_max_send_msg_size = 80 << 20;
  int64_t grpc_max_recv_msg_size = 80 << 20;
  std::string stream_path;
  std::string stream_address = "127.0.0.1";
  int64_t stream_port = 0;
  bool stream_enable_tls = false;
  std::string stream_tls_cert;
  std::string stream_tls_key;
  std::string stream_tls_ca;
  std::string tls_min_version = "VersionTLS12";
  std::vector<std::string> tls_cipher_suites;
  int64_t stream_idle_timeout = 14400;   // Seconds, as the next two; 0: never.
  int64_t stream_creation_timeout = 30;  //
  int64_t stream_linger_timeout = 60;    //
  int64_t stream_max_sessions = 1000;
  int64_t stream_max_streams = 1000;
  int64_t stream_max_urls = 1000;
  int64_t stream_max_frame_size = (1 << 24) - 1;  // Bytes.
  int64_t stream_max_header_size = 64 << 10;

  // [crisp.runtime]
  std::string default_runtime = "crun";
  std::string log_level = "info";
  std::string cgroup_manager;  // Never empty after ResolveHost, nor are the three cgroups.
  std::string conmon;
  std::string conmon_cgroup;
  std::string init_path;
  std::string work_cgroup;
  std::string stream_cgroup;
  std::vector<std::string> default_capabilities = {"CHOWN",   "DAC_OVERRIDE",     "FSETID",
                                                   "FOWNER",  "SETGID",           "SETUID",
                                                   "SETPCAP", "NET_BIND_SERVICE", "KILL"};
  std::vector<std::string> default_sysctls;
  std::vector<std::string> default_env;
  std::vector<std::string> default_ulimits;
  int64_t pids_limit = 0;
  std::string seccomp_profile;
  std::string apparmor_profile = "crisp-default";
  bool selinux = true;
  bool hostnetwork_disable_selinux = true;
  bool read_only = false;
  std::string timezone;
  std::string default_mounts_file;
  std::vector<std::string> absent_mount_sources_to_reject;
  std::vector<std::string> allowed_devices = {"/dev/fuse", "/dev/net/tun"};
  std::vector<std::string> additional_devices;
  bool device_ownership_from_security_context = false;
  std::vector<std::string> cdi_spec_dirs = {"/etc/cdi", "/var/run/cdi"};
  std::vector<std::string> hooks_dirs = {"/usr/share/containers/oci/hooks.d",
                                         "/etc/containers/oci/hooks.d"};
  std::map<std::string, RuntimeHandler, std::less<>> runtimes;

  // [crisp.image]
  std::string pull_path;
  std::string global_auth_file;
  std::string registries_conf = "/etc/containers/registries.conf";
  std::string registries_conf_dir = "/etc/containers/registries.conf.d";
  std::string short_name_mode;
  std::vector<std::string> registry_hosts_dirs = {"/etc/crisp/hosts.d"};
  std::vector<std::string> insecure_registries;
  std::string namespaced_auth_dir = "/etc/crisp/auth";
  std::vector<std::string> credential_helper_dirs = {"/usr/local/bin", "/usr/bin"};
  std::string signature_policy;
  std::string signature_policy_dir = "/etc/crisp/policies";
  std::vector<std::string> pinned_images;
  std::string image_volumes = "mkdir";
  int64_t max_parallel_layers = 3;
  int64_t max_parallel_pulls = 16;
  int64_t max_parallel_ranges = 4;
  int64_t pull_progress_timeout = 600;  // Seconds, as the next; 0: none.
  int64_t pull_stall_timeout = 30;
  int64_t pull_minimum_rate = 1024;  // Bytes per second.
  std::string pull_cgroup;

  // [crisp.network]
  std::string network_dir = "/etc/cni/net.d";
  std::vector<std::string> plugin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
  std::string cni_default_network;
  std::vector<std::string> cni_additional_networks;
  std::string ip_pref = "ipv4";
  std::string netns_dir = "/run/netns";

  // Where each value that is not a default comes from ("FILE:LINE" or "--flag"), by dotted key.
  std::map<std::string, std::string, std::less<>> origins;

  // The files that were there, in the order in which they were read.
  std::vector<std::string> files;

  // "default" for what nobody set.
  std::string Origin(std::string_view dotted_key) const;
};

// A value as a file or a flag gives it.
using ConfigValue = std::variant<bool, int64_t, std::string, std::vector<std::string>>;

// One value given on the command line.
struct FlagSetting {
  std::string key;   // Dotted: "crisp.api.listen".
  std::string flag;  // "--listen", for messages.
  ConfigValue value;
};

struct ConfigSources {
  std::string file = "/etc/crisp/crisp.conf";
  bool file_required = false;  // Without it a missing file is as good as an empty one.
  std::string directory = "/etc/crisp/crisp.conf.d";  // *.conf in lexical order; may be missing.
  std::vector<FlagSetting> flags;
};

// Later sources win, key by key: defaults, file, drop-ins, flags. INVALID_ARGUMENT for text that is
// no TOML, an unknown key (the message names the nearest known one), a wrong type or a bad value;
// each message starts with "FILE:LINE: " or the flag. Empty values that stand for another one are
// filled in; what depends on the machine is not looked up yet.
absl::StatusOr<Config> LoadConfig(const ConfigSources& sources);

// Completes what depends on this machine: the helper programs beside `program` (the path of the
// running crisp) or in /usr/libexec/crisp, and the default runtimes that are installed.
void ResolveHost(std::string_view program, Config* config);

// The effective configuration as TOML, each value followed by its origin as a comment.
std::string FormatConfig(const Config& config);

// A file for a person to edit: every key explained, with its default, commented out.
std::string ConfigTemplate();

// The flags made from the table of keys.
struct ConfigFlag {
  std::string key;
  std::string flag;  // With its dashes.
  std::string help;
  bool repeatable = false;  // A list: given once for each element.
};
std::vector<ConfigFlag> ConfigFlags();

// The setting a flag with these arguments stands for; INVALID_ARGUMENT when the text is no number
// or boolean as the key needs it. `arguments` is not empty.
absl::StatusOr<FlagSetting> ParseConfigFlag(const ConfigFlag& flag,
                                            const std::vector<std::string>& arguments);

}  // namespace crispd
