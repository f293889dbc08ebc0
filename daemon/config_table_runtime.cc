// The keys of [crisp.runtime] and of its handlers.
#include "daemon/config_checks.h"
#include "daemon/config_keys.h"

namespace crispd {
namespace {

constexpr std::string_view kRuntime = "crisp.runtime";

const ConfigKey<Config> kRuntimeKeys[] = {
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
     .help = "Who makes the cgroups of new pods: \"systemd\", as slices and scopes, or "
             "\"cgroupfs\", the OCI runtime. The kubelet asks for it. Empty: systemd where that is "
             "process 1.",
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
             "pods' and the daemon's: monitors outlive both. Empty: /crisp-monitors, or with "
             "systemd one in the unit crisp-monitors.service.",
     .check_text = CheckOptionalCgroup},
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
         "left in it is killed when the daemon starts. Empty: /crisp-work, or with systemd one in "
         "the unit crisp-monitors.service.",
     .check_text = CheckOptionalCgroup},
    {.table = kRuntime,
     .name = "stream_cgroup",
     .field = &Config::stream_cgroup,
     .help = "The cgroup of the streaming server (exec, attach, port-forward), which outlives the "
             "daemon. It must lie outside the pods' and the daemon's. Empty: /crisp-streams, or "
             "with systemd one in the unit crisp-monitors.service.",
     .check_text = CheckOptionalCgroup},
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
     .check_text = CheckSysctl},
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
    {.table = kRuntime,
     .name = "seccomp_profile",
     .field = &Config::seccomp_profile,
     .help = "The file with the seccomp profile of RuntimeDefault, in the format of containers' "
             "seccomp.json, read at the start. Empty: the built-in one.",
     .check_text = CheckOptionalPath},
    {.table = kRuntime,
     .name = "apparmor_profile",
     .field = &Config::apparmor_profile,
     .help = "The AppArmor profile of RuntimeDefault and of containers that ask for none. "
             "\"crisp-default\" is generated and loaded at the start; another one must be loaded "
             "already; \"unconfined\" is none.",
     .check_text = CheckNotEmpty},
    {.table = kRuntime,
     .name = "selinux",
     .field = &Config::selinux,
     .help = "Label containers where the kernel has SELinux. false: leave SELinux alone."},
    {.table = kRuntime,
     .name = "hostnetwork_disable_selinux",
     .field = &Config::hostnetwork_disable_selinux,
     .help = "Run containers of pods on the host's network without a label of their own."},
    {.table = kRuntime,
     .name = "read_only",
     .field = &Config::read_only,
     .help =
         "Make the root file system of every container read-only, with a tmpfs on /run, /tmp and "
         "/var/tmp."},
    {.table = kRuntime,
     .name = "timezone",
     .field = &Config::timezone,
     .help = "The time zone of containers, as /etc/localtime: a name such as \"Europe/Berlin\", or "
             "\"Local\" for the host's. Empty: the image's.",
     .check_text = CheckTimezone},
    {.table = kRuntime,
     .name = "default_mounts_file",
     .field = &Config::default_mounts_file,
     .help =
         "A file with a line SOURCE:DESTINATION for each folder or file that is mounted read-only "
         "into every container, unless it is missing. Empty: none.",
     .check_text = CheckOptionalPath},
    {.table = kRuntime,
     .name = "absent_mount_sources_to_reject",
     .field = &Config::absent_mount_sources_to_reject,
     .help = "Paths of the host that are not made as folders when a mount names them and they are "
             "missing: the container is refused instead.",
     .flag = "absent-mount-source-to-reject",
     .check_text = CheckPath},
    {.table = kRuntime,
     .name = "allowed_devices",
     .field = &Config::allowed_devices,
     .help = "Devices of the host that a pod may ask for by the annotation "
             "io.kubernetes.cri-o.Devices (or devices.crio.io), where its handler's "
             "allowed_annotations has that name.",
     .flag = "allowed-device",
     .check_text = CheckPath},
    {.table = kRuntime,
     .name = "additional_devices",
     .field = &Config::additional_devices,
     .help = "HOST[:CONTAINER][:PERMISSIONS]: devices for every container, such as "
             "\"/dev/fuse:/dev/fuse:rwm\". CONTAINER lies in /dev.",
     .flag = "additional-device",
     .check_text = CheckDevice},
    {.table = kRuntime,
     .name = "device_ownership_from_security_context",
     .field = &Config::device_ownership_from_security_context,
     .help = "Give the devices that a container asks for to the user and group that its security "
             "context names. false: they keep the host's owner."},
    {.table = kRuntime,
     .name = "cdi_spec_dirs",
     .field = &Config::cdi_spec_dirs,
     .help = "Where CDI specifications of devices are (*.json, *.yaml), read when a container asks "
             "for a device; the later folder wins.",
     .flag = "cdi-spec-dir",
     .check_text = CheckPath},
    {.table = kRuntime,
     .name = "hooks_dir",
     .field = &Config::hooks_dirs,
     .help = "Where files with OCI hooks are (oci-hooks(5), *.json), looked at for each container; "
             "of files with one name the later folder's counts.",
     .flag = "hooks-dir",
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
     .name = "runtime_type",
     .field = &RuntimeHandler::runtime_type,
     .help = "How the runtime is spoken to: \"oci\", by its command line.",
     .check_text = CheckRuntimeType},
    {.table = "",
     .name = "runtime_config_path",
     .field = &RuntimeHandler::runtime_config_path,
     .help = "The runtime's own configuration file, given to it as --config. Empty: none.",
     .check_text = CheckOptionalPath},
    {.table = "",
     .name = "runtime_arguments",
     .field = &RuntimeHandler::runtime_arguments,
     .help = "Further options of the runtime, before its command: \"--debug\", "
             "\"--platform=kvm\".",
     .check_text = CheckRuntimeArgument},
    {.table = "",
     .name = "inherit_default_runtime",
     .field = &RuntimeHandler::inherit_default_runtime,
     .help = "Take what is not set here, but for annotations and the state's place, from the "
             "default runtime's table."},
    {.table = "",
     .name = "sandbox",
     .field = &RuntimeHandler::sandbox,
     .help = "The runtime makes one sandbox for the whole pod, which a first container holds, as "
             "gVisor's does. true is assumed of a runtime that calls itself runsc."},
    {.table = "",
     .name = "allowed_annotations",
     .field = &RuntimeHandler::allowed_annotations,
     .help = "Annotations of pods and containers, by name or prefix, that reach the runtime.",
     .check_text = CheckNotEmpty},
    {.table = "",
     .name = "disallowed_annotations",
     .field = &RuntimeHandler::disallowed_annotations,
     .help = "Exceptions from allowed_annotations, by name or prefix.",
     .check_text = CheckNotEmpty},
    {.table = "",
     .name = "default_annotations",
     .field = &RuntimeHandler::default_annotations,
     .help = "NAME=VALUE, given to the runtime with every container unless an allowed annotation "
             "of its pod says otherwise. Also a table of names and values.",
     .check_text = CheckAssignment},
    {.table = "",
     .name = "privileged_without_host_devices",
     .field = &RuntimeHandler::privileged_without_host_devices,
     .help = "Give privileged containers the devices they ask for only, not all of the host's."},
    {.table = "",
     .name = "container_create_timeout",
     .field = &RuntimeHandler::container_create_timeout,
     .help = "Seconds that the runtime may take to create a container.",
     .check_number = CheckPositive},
    {.table = "",
     .name = "container_min_memory",
     .field = &RuntimeHandler::container_min_memory,
     .help = "The least memory limit that the runtime starts a container with, such as \"12MiB\". "
             "Empty: 512KiB for crun, 12MiB for others.",
     .check_text = CheckByteSize},
    {.table = "",
     .name = "monitor_cgroup",
     .field = &RuntimeHandler::monitor_cgroup,
     .help = "The cgroup of this handler's monitors instead of conmon_cgroup. Empty: that.",
     .check_text = CheckOptionalCgroup},
    {.table = "",
     .name = "monitor_env",
     .field = &RuntimeHandler::monitor_env,
     .help = "NAME=VALUE, in the environment of this handler's monitors and so of its runtime "
             "when that creates a container.",
     .check_text = CheckAssignment},
};

}  // namespace

std::span<const ConfigKey<Config>> RuntimeKeys() { return kRuntimeKeys; }
std::span<const ConfigKey<RuntimeHandler>> HandlerKeys() { return kHandlerKeys; }

}  // namespace crispd
