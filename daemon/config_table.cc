// The table of configuration keys and the checks it names.
#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "daemon/config_keys.h"
#include "imageservice/registries_config.h"

namespace crispd {
namespace {

absl::Status Invalid(std::string message) {
  return absl::InvalidArgumentError(base::ToAbsl(message));
}

absl::Status CheckPath(std::string_view text) {
  return text.starts_with('/') ? absl::OkStatus()
                               : Invalid(base::StrCat("want an absolute path, got \"", text, "\""));
}

absl::Status CheckOptionalPath(std::string_view text) {
  return text.empty() ? absl::OkStatus() : CheckPath(text);
}

absl::Status CheckSocket(std::string_view text) {
  RETURN_IF_ERROR(CheckOptionalPath(text));
  // struct sockaddr_un holds 108 bytes with the final NUL.
  return text.size() <= 107 ? absl::OkStatus()
                            : Invalid(base::StrCat(
                                  "a socket's path has at most 107 bytes, this one ", text.size()));
}

absl::Status CheckCgroup(std::string_view text) {
  RETURN_IF_ERROR(CheckPath(text));
  return text.size() > 1 && text.find("/..") == std::string_view::npos
             ? absl::OkStatus()
             : Invalid(base::StrCat("\"", text, "\" is no cgroup of its own"));
}

absl::Status CheckOptionalCgroup(std::string_view text) {
  return text.empty() ? absl::OkStatus() : CheckCgroup(text);
}

absl::Status CheckLogLevel(std::string_view text) { return base::ParseLogLevel(text).status(); }

absl::Status CheckCgroupManager(std::string_view text) {
  if (text == "cgroupfs") return absl::OkStatus();
  if (text == "systemd") {
    return Invalid("the cgroup manager \"systemd\" comes in a later version: use \"cgroupfs\"");
  }
  return Invalid(base::StrCat("unknown cgroup manager \"", text, "\": use \"cgroupfs\""));
}

absl::Status CheckAssignment(std::string_view text) {
  const size_t equals = text.find('=');
  return equals != std::string_view::npos && equals > 0
             ? absl::OkStatus()
             : Invalid(base::StrCat("want NAME=VALUE, got \"", text, "\""));
}

absl::Status CheckCapability(std::string_view text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || c == '_';
  });
  return plain ? absl::OkStatus()
               : Invalid(base::StrCat("want a capability such as \"CHOWN\", got \"", text, "\""));
}

absl::Status CheckUlimit(std::string_view text) {
  const std::vector<std::string> parts =
      absl::StrSplit(base::ToAbsl(text), absl::MaxSplits(absl::ByAnyChar("=:"), 2));
  int64_t soft = 0;
  int64_t hard = 0;
  const bool good = parts.size() >= 2 && !parts[0].empty() && absl::SimpleAtoi(parts[1], &soft) &&
                    (parts.size() == 2 || absl::SimpleAtoi(parts[2], &hard)) && soft >= -1 &&
                    hard >= -1 && (parts.size() == 2 || hard == -1 || (soft >= 0 && soft <= hard));
  return good ? absl::OkStatus() : Invalid(base::StrCat("want NAME=SOFT:HARD, got \"", text, "\""));
}

absl::Status CheckRegistry(std::string_view text) {
  return !text.empty() && text.find("://") == std::string_view::npos
             ? absl::OkStatus()
             : Invalid(base::StrCat("want a registry such as \"host:5000\", got \"", text, "\""));
}

absl::Status CheckShortNameMode(std::string_view text) {
  return text.empty() || imageservice::ParseShortNameMode(text)
             ? absl::OkStatus()
             : Invalid(base::StrCat("want \"enforcing\", \"permissive\" or \"disabled\", got \"",
                                    text, "\""));
}

absl::Status CheckNotEmpty(std::string_view text) {
  return text.empty() ? Invalid("must not be empty") : absl::OkStatus();
}

absl::Status CheckMessageSize(int64_t number) {
  // gRPC keeps the limit in an int.
  constexpr int64_t kSmallest = 4 << 20;
  return number >= kSmallest && number <= INT32_MAX
             ? absl::OkStatus()
             : Invalid(base::StrCat("want ", kSmallest, " to ", INT32_MAX, " bytes, got ", number));
}

absl::Status CheckPositive(int64_t number) {
  return number > 0 ? absl::OkStatus()
                    : Invalid(base::StrCat("want a number above 0, got ", number));
}

absl::Status CheckSmallCount(int64_t number) {
  constexpr int64_t kMost = 1000;
  return number > 0 && number <= kMost
             ? absl::OkStatus()
             : Invalid(base::StrCat("want 1 to ", kMost, ", got ", number));
}

absl::Status CheckNotNegative(int64_t number) {
  return number >= 0 ? absl::OkStatus() : Invalid(base::StrCat("want 0 or more, got ", number));
}

absl::Status CheckPidsLimit(int64_t number) {
  return number >= -1 ? absl::OkStatus()
                      : Invalid(base::StrCat("want -1, 0 or a limit, got ", number));
}

constexpr std::string_view kMain = "crisp";
constexpr std::string_view kApi = "crisp.api";
constexpr std::string_view kRuntime = "crisp.runtime";
constexpr std::string_view kImage = "crisp.image";
constexpr std::string_view kNetwork = "crisp.network";

const ConfigKey<Config> kConfigKeys[] = {
    {.table = kMain,
     .name = "root",
     .field = &Config::root,
     .help =
         "Directory of what outlives a reboot: records, layers, containers' writable files. One "
         "daemon at a time uses it.",
     .check_text = CheckPath},
    {.table = kMain,
     .name = "runroot",
     .field = &Config::runroot,
     .help = "Directory of what ends with the boot; best on a tmpfs.",
     .check_text = CheckPath},

    {.table = kApi,
     .name = "listen",
     .field = &Config::listen,
     .help = "The unix socket on which the CRI is served. Empty: crisp.sock in runroot.",
     .check_text = CheckSocket},
    {.table = kApi,
     .name = "grpc_max_send_msg_size",
     .field = &Config::grpc_max_send_msg_size,
     .help = "The longest answer in bytes.",
     .check_number = CheckMessageSize},
    {.table = kApi,
     .name = "grpc_max_recv_msg_size",
     .field = &Config::grpc_max_recv_msg_size,
     .help = "The longest request in bytes.",
     .check_number = CheckMessageSize},

    {.table = kRuntime,
     .name = "log_level",
     .field = &Config::log_level,
     .help = "The least important lines that are logged: debug, info, warn or error.",
     .check_text = CheckLogLevel},
    {.table = kRuntime,
     .name = "default_runtime",
     .field = &Config::default_runtime,
     .help = "The handler, one of crisp.runtime.runtimes, of pods that name none.",
     .check_text = CheckNotEmpty},
    {.table = kRuntime,
     .name = "cgroup_manager",
     .field = &Config::cgroup_manager,
     .help = "How cgroups are made: \"cgroupfs\". (\"systemd\" comes later.)",
     .check_text = CheckCgroupManager},
    {.table = kRuntime,
     .name = "conmon",
     .field = &Config::conmon,
     .help = "The monitor program. Empty: crisp-monitor beside crisp, else in /usr/libexec/crisp.",
     .check_text = CheckOptionalPath},
    {.table = kRuntime,
     .name = "conmon_cgroup",
     .field = &Config::conmon_cgroup,
     .help = "The cgroup of the monitors, from the root of each hierarchy. It must lie outside the "
             "pods' and the daemon's: monitors outlive both.",
     .check_text = CheckCgroup},
    {.table = kRuntime,
     .name = "init_path",
     .field = &Config::init_path,
     .help =
         "The program that holds namespaces and starts children. Empty: crisp-init beside crisp, "
         "else in /usr/libexec/crisp.",
     .check_text = CheckOptionalPath},
    {.table = kRuntime,
     .name = "work_cgroup",
     .field = &Config::work_cgroup,
     .help =
         "The cgroup of short-lived helpers (runtime calls, network plugins, pulls). Whatever is "
         "left in it is killed when the daemon starts.",
     .check_text = CheckCgroup},
    {.table = kRuntime,
     .name = "default_capabilities",
     .field = &Config::default_capabilities,
     .help =
         "Capabilities of containers that are not privileged, before the pod adds or drops some.",
     .flag = "default-capability",
     .check_text = CheckCapability},
    {.table = kRuntime,
     .name = "default_sysctls",
     .field = &Config::default_sysctls,
     .help = "NAME=VALUE, set in pods with a namespace of their own for it; the pod's own win.",
     .flag = "default-sysctl",
     .check_text = CheckAssignment},
    {.table = kRuntime,
     .name = "default_env",
     .field = &Config::default_env,
     .help = "NAME=VALUE, in the environment of all containers; the image's and the pod's win.",
     .flag = "default-env",
     .check_text = CheckAssignment},
    {.table = kRuntime,
     .name = "default_ulimits",
     .field = &Config::default_ulimits,
     .help = "NAME=SOFT:HARD, such as \"nofile=1024:2048\".",
     .flag = "default-ulimit",
     .check_text = CheckUlimit},
    {.table = kRuntime,
     .name = "pids_limit",
     .field = &Config::pids_limit,
     .help = "Processes per container; 0 or -1: no limit (the kubelet sets one per pod).",
     .check_number = CheckPidsLimit},

    {.table = kImage,
     .name = "pull_path",
     .field = &Config::pull_path,
     .help = "The pull worker. Empty: crisp-pull beside crisp, else in /usr/libexec/crisp.",
     .check_text = CheckOptionalPath},
    {.table = kImage,
     .name = "global_auth_file",
     .field = &Config::global_auth_file,
     .help = "Credentials for registries (containers-auth.json(5)) when the kubelet sends none. "
             "Empty: the files where podman and docker keep root's, the first that has some "
             "(/run/containers/0/auth.json, ~/.config/containers/auth.json, ~/.docker/config.json, "
             "~/.dockercfg).",
     .check_text = CheckOptionalPath},
    {.table = kImage,
     .name = "namespaced_auth_dir",
     .field = &Config::namespaced_auth_dir,
     .help = "Credentials for the pulls of one namespace's pods, instead of all others of the "
             "node: NAMESPACE-SHA256.json, by the SHA-256 of REGISTRY/REPOSITORY in hexadecimal. "
             "A file is removed once it is used. Empty: none.",
     .check_text = CheckOptionalPath},
    {.table = kImage,
     .name = "credential_helper_dirs",
     .field = &Config::credential_helper_dirs,
     .help = "Where credential helpers (docker-credential-NAME) are.",
     .flag = "credential-helper-dir",
     .check_text = CheckPath},
    {.table = kImage,
     .name = "signature_policy",
     .field = &Config::signature_policy,
     .help = "Which images may be pulled: containers-policy.json(5). Empty: "
             "/etc/containers/policy.json if it is there, else any. What demands a signature is "
             "refused: signatures cannot be verified yet.",
     .check_text = CheckOptionalPath},
    {.table = kImage,
     .name = "signature_policy_dir",
     .field = &Config::signature_policy_dir,
     .help = "NAMESPACE.json in it counts instead of signature_policy for the pods of that "
             "namespace. Empty: none.",
     .check_text = CheckOptionalPath},
    {.table = kImage,
     .name = "registries_conf",
     .field = &Config::registries_conf,
     .help = "Mirrors, blocked registries and short names: containers-registries.conf(5).",
     .check_text = CheckPath},
    {.table = kImage,
     .name = "registries_conf_dir",
     .field = &Config::registries_conf_dir,
     .help = "Drop-ins of registries_conf.",
     .check_text = CheckOptionalPath},
    {.table = kImage,
     .name = "short_name_mode",
     .field = &Config::short_name_mode,
     .help = "What of an image without a registry in its name that several search registries may "
             "have: \"disabled\" and \"permissive\" try them in turn, \"enforcing\" refuses it. "
             "Empty: as registries.conf says, else \"permissive\".",
     .check_text = CheckShortNameMode},
    {.table = kImage,
     .name = "registry_hosts_dirs",
     .field = &Config::registry_hosts_dirs,
     .help = "Folders by registry with a hosts.toml, as containerd has them in "
             "/etc/containerd/certs.d: the first that has one for a registry counts.",
     .flag = "registry-hosts-dir",
     .check_text = CheckPath},
    {.table = kImage,
     .name = "insecure_registries",
     .field = &Config::insecure_registries,
     .help = "Registries spoken to without TLS or with a certificate nobody checks.",
     .flag = "insecure-registry",
     .check_text = CheckRegistry},
    {.table = kImage,
     .name = "pinned_images",
     .field = &Config::pinned_images,
     .help =
         "Images that the kubelet's garbage collection leaves alone: whole names "
         "(\"REGISTRY/REPOSITORY:TAG\") in which * stands for any text, such as \"quay.io/app/*\" "
         "or \"*pause*\". Pods need no pause image.",
     .flag = "pinned-image",
     .check_text = CheckNotEmpty},
    {.table = kImage,
     .name = "max_parallel_layers",
     .field = &Config::max_parallel_layers,
     .help = "Layers of one image that are fetched and unpacked at the same time.",
     .check_number = CheckSmallCount},
    {.table = kImage,
     .name = "max_parallel_pulls",
     .field = &Config::max_parallel_pulls,
     .help = "Images that are pulled at the same time; more wait for their turn.",
     .check_number = CheckSmallCount},
    {.table = kImage,
     .name = "max_parallel_ranges",
     .field = &Config::max_parallel_ranges,
     .help =
         "Connections that fetch pieces of one large layer when the registry is slower than this "
         "machine. 1: never more than one.",
     .check_number = CheckSmallCount},
    {.table = kImage,
     .name = "pull_progress_timeout",
     .field = &Config::pull_progress_timeout,
     .help = "Seconds without any progress after which a pull fails. 0: never.",
     .check_number = CheckNotNegative},
    {.table = kImage,
     .name = "pull_stall_timeout",
     .field = &Config::pull_stall_timeout,
     .help =
         "A transfer that brings less than pull_minimum_rate over so many seconds is given up, and "
         "the next endpoint goes on where it stopped.",
     .check_number = CheckPositive},
    {.table = kImage,
     .name = "pull_minimum_rate",
     .field = &Config::pull_minimum_rate,
     .help = "Bytes per second below which a transfer counts as stalled.",
     .check_number = CheckPositive},
    {.table = kImage,
     .name = "pull_cgroup",
     .field = &Config::pull_cgroup,
     .help = "A cgroup, relative to the root of each hierarchy, in which pulls run, in a group "
             "\"crisp-pulls\" of their own: to limit their CPU, memory and I/O. Empty: with the "
             "daemon's other helpers.",
     .check_text = CheckOptionalCgroup},

    {.table = kNetwork,
     .name = "network_dir",
     .field = &Config::network_dir,
     .help = "Where the CNI configuration lists are.",
     .flag = "cni-config-dir",
     .check_text = CheckPath},
    {.table = kNetwork,
     .name = "plugin_dirs",
     .field = &Config::plugin_dirs,
     .help = "Where the CNI plugins are; the first that has one wins.",
     .flag = "cni-plugin-dir",
     .check_text = CheckPath},
    {.table = kNetwork,
     .name = "cni_default_network",
     .field = &Config::cni_default_network,
     .help = "The name of the list to use. Empty: the first in network_dir."},
    {.table = kNetwork,
     .name = "netns_dir",
     .field = &Config::netns_dir,
     .help = "Where network namespaces are pinned. Network plugins that run as daemons look here.",
     .check_text = CheckPath},
};

const ConfigKey<RuntimeHandler> kHandlerKeys[] = {
    {.table = "",
     .name = "runtime_path",
     .field = &RuntimeHandler::runtime_path,
     .help = "The OCI runtime's program.",
     .check_text = CheckPath},
    {.table = "",
     .name = "runtime_root",
     .field = &RuntimeHandler::runtime_root,
     .help = "Where the runtime keeps its state. Empty: runtime/NAME in runroot.",
     .check_text = CheckOptionalPath},
    {.table = "",
     .name = "allowed_annotations",
     .field = &RuntimeHandler::allowed_annotations,
     .help = "Annotations of pods and containers, by name or prefix, that reach the runtime.",
     .check_text = CheckNotEmpty},
    {.table = "",
     .name = "container_create_timeout",
     .field = &RuntimeHandler::container_create_timeout,
     .help = "Seconds that the runtime may take to create a container.",
     .check_number = CheckPositive},
};

}  // namespace

std::span<const ConfigKey<Config>> ConfigKeys() { return kConfigKeys; }
std::span<const ConfigKey<RuntimeHandler>> HandlerKeys() { return kHandlerKeys; }

}  // namespace crispd
