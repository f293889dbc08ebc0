// The table of configuration keys, but for those of [crisp.runtime] and of the streaming server:
// config_table_runtime.cc, config_table_stream.cc.
#include "daemon/config_checks.h"
#include "daemon/config_keys.h"

namespace crispd {
namespace {

constexpr std::string_view kMain = "crisp";
constexpr std::string_view kApi = "crisp.api";
constexpr std::string_view kImage = "crisp.image";
constexpr std::string_view kNetwork = "crisp.network";

const ConfigKey<Config> kMainKeys[] = {
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
};

const ConfigKey<Config> kOtherKeys[] = {
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
     .name = "image_volumes",
     .field = &Config::image_volumes,
     .help = "What of the volumes an image declares: \"mkdir\" makes a folder in the root file "
             "system, \"bind\" mounts a folder that has the image's content, \"ignore\" does "
             "nothing.",
     .check_text = CheckImageVolumes},
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
     .name = "cni_additional_networks",
     .field = &Config::cni_additional_networks,
     .help = "The names of further lists in network_dir. Each gives every pod one more interface, "
             "eth1 and up in this order; the pod's addresses are those of the default network.",
     .check_text = CheckNotEmpty},
    {.table = kNetwork,
     .name = "ip_pref",
     .field = &Config::ip_pref,
     .help = "Which of a pod's addresses is its primary one: \"ipv4\", \"ipv6\", or \"cni\", the "
             "first that the plugins return.",
     .check_text = CheckIpPreference},
    {.table = kNetwork,
     .name = "netns_dir",
     .field = &Config::netns_dir,
     .help = "Where network namespaces are pinned. Network plugins that run as daemons look here.",
     .check_text = CheckPath},
};

}  // namespace

std::span<const ConfigKey<Config>> ConfigKeys() {
  static const auto* const keys = [] {
    auto* all = new std::vector<ConfigKey<Config>>;
    for (const std::span<const ConfigKey<Config>> part :
         {std::span<const ConfigKey<Config>>(kMainKeys), StreamKeys(), RuntimeKeys(),
          std::span<const ConfigKey<Config>>(kOtherKeys)}) {
      all->insert(all->end(), part.begin(), part.end());
    }
    return all;
  }();
  return *keys;
}

}  // namespace crispd
