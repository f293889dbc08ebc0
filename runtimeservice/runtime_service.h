// The runtime verbs of the CRI (runtime.v1.RuntimeService). Bodies: pods.cc, containers.cc,
// stop.cc, updates.cc, exec.cc, streams_verbs.cc, queries.cc, verbose.cc, status.cc; what they share:
// pod_resources.cc, container_resources.cc, image_volumes.cc, pod_attachment.cc, network_upkeep.cc;
// the start of the daemon: recovery.cc.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/idmap.h"
#include "base/lane.h"
#include "base/launcher.h"
#include "imageservice/image.h"
#include "imageservice/rootfs.h"
#include "network/detach_debts.h"
#include "network/pod_network.h"
#include "proto/cri.h"
#include "runtimeservice/devices/container_devices.h"
#include "runtimeservice/event_loop.h"
#include "runtimeservice/exit_watch.h"
#include "runtimeservice/handlers.h"
#include "runtimeservice/host_paths.h"
#include "runtimeservice/oci/runtime.h"
#include "runtimeservice/paths.h"
#include "runtimeservice/pod_ranges.h"
#include "runtimeservice/spec/apparmor.h"
#include "runtimeservice/spec/cgroup_path.h"
#include "runtimeservice/spec/node_mounts.h"
#include "runtimeservice/spec/spec.h"
#include "runtimeservice/state/creations.h"
#include "runtimeservice/state/leases.h"
#include "runtimeservice/state/registry.h"
#include "runtimeservice/streams.h"

namespace runtimeservice {

// What becomes of the folders that an image declares as volumes: folders in the root file system,
// copies of their own, bound there, or nothing.
enum class DeclaredVolumes { kMkdir, kBind, kIgnore };

// What the runtime service must know of the daemon's configuration.
struct ServiceConfig {
  std::string root = "/var/lib/crisp";
  std::string run_root = "/run/crisp";
  std::string monitor_path;                        // crisp-monitor
  std::string init_path;                           // crisp-init, also the pause program.
  std::string pull_path;                           // crisp-pull, for Status alone.
  std::string monitor_cgroup = "/crisp-monitors";  // Relative to each hierarchy's root.
  CgroupDriver cgroup_driver = state::CGROUPFS;    // Of new pods.
  std::string version;                             // crisp's own.
  std::string default_handler = "crun";            // A key of `handlers`.
  std::map<std::string, HandlerConfig> handlers;   // By name.
  SpecDefaults defaults;                           //
  DeviceConfig devices;                            //
  std::string seccomp_profile;                     // A file; empty: the built-in profile.
  std::string apparmor_profile{kAppArmorDefault};  // Of RuntimeDefault.
  bool selinux = true;                             // Where the kernel has it.
  bool hostnetwork_disable_selinux = true;         // No process label on the host's network.
  NodeMounts node_mounts;                          // Of every container.
  std::vector<std::string> absent_mount_sources_to_reject;
  DeclaredVolumes declared_volumes = DeclaredVolumes::kMkdir;
  absl::Duration start_timeout = absl::Seconds(30);  // `start`.
  StreamsConfig streams;
};

// What the runtime service uses; all must outlive it.
struct ServiceDependencies {
  const base::Launcher& launcher;
  imageservice::ImageSource& images;
  imageservice::Rootfs& rootfs;
  network::PodNetwork& network;
  network::DetachDebts& debts;
};

// Every verb blocks its thread (a lane's) and is thread-safe; StopContainer alone may answer later.
class RuntimeService {
 public:
  // Recovers what the last daemon left (recovery.cc) and returns when requests can be served.
  static absl::StatusOr<std::unique_ptr<RuntimeService>> Open(ServiceConfig config,
                                                              ServiceDependencies dependencies);
  ~RuntimeService();

  absl::StatusOr<cri::VersionResponse> Version(const Context&, const cri::VersionRequest&);
  absl::StatusOr<cri::StatusResponse> Status(const Context&, const cri::StatusRequest&);
  absl::StatusOr<cri::RuntimeConfigResponse> RuntimeConfig(const Context&,
                                                           const cri::RuntimeConfigRequest&);
  absl::StatusOr<cri::UpdateRuntimeConfigResponse> UpdateRuntimeConfig(
      const Context&, const cri::UpdateRuntimeConfigRequest&);

  absl::StatusOr<cri::RunPodSandboxResponse> RunPodSandbox(const Context&,
                                                           const cri::RunPodSandboxRequest&);
  absl::StatusOr<cri::StopPodSandboxResponse> StopPodSandbox(const Context&,
                                                             const cri::StopPodSandboxRequest&);
  absl::StatusOr<cri::RemovePodSandboxResponse> RemovePodSandbox(
      const Context&, const cri::RemovePodSandboxRequest&);
  absl::StatusOr<cri::PodSandboxStatusResponse> PodSandboxStatus(
      const Context&, const cri::PodSandboxStatusRequest&);
  absl::StatusOr<cri::ListPodSandboxResponse> ListPodSandbox(const Context&,
                                                             const cri::ListPodSandboxRequest&);

  absl::StatusOr<cri::CreateContainerResponse> CreateContainer(const Context&,
                                                               const cri::CreateContainerRequest&);
  absl::StatusOr<cri::StartContainerResponse> StartContainer(const Context&,
                                                             const cri::StartContainerRequest&);
  using StopDone = std::function<void(absl::StatusOr<cri::StopContainerResponse>)>;
  // Sends the stop signal and returns; `done` is called once, from any thread, when it has ended.
  void StopContainer(const Context&, const cri::StopContainerRequest&, StopDone done);
  absl::StatusOr<cri::RemoveContainerResponse> RemoveContainer(const Context&,
                                                               const cri::RemoveContainerRequest&);
  absl::StatusOr<cri::ContainerStatusResponse> ContainerStatus(const Context&,
                                                               const cri::ContainerStatusRequest&);
  absl::StatusOr<cri::ListContainersResponse> ListContainers(const Context&,
                                                             const cri::ListContainersRequest&);
  absl::StatusOr<cri::UpdateContainerResourcesResponse> UpdateContainerResources(
      const Context&, const cri::UpdateContainerResourcesRequest&);
  absl::StatusOr<cri::UpdatePodSandboxResourcesResponse> UpdatePodSandboxResources(
      const Context&, const cri::UpdatePodSandboxResourcesRequest&);
  absl::StatusOr<cri::ReopenContainerLogResponse> ReopenContainerLog(
      const Context&, const cri::ReopenContainerLogRequest&);
  absl::StatusOr<cri::ExecSyncResponse> ExecSync(const Context&, const cri::ExecSyncRequest&);
  absl::StatusOr<cri::ExecResponse> Exec(const Context&, const cri::ExecRequest&);
  absl::StatusOr<cri::AttachResponse> Attach(const Context&, const cri::AttachRequest&);
  absl::StatusOr<cri::PortForwardResponse> PortForward(const Context&,
                                                       const cri::PortForwardRequest&);

  // EventLoop::Lag, for the watchdog.
  absl::Duration LoopLag() { return loop_->Lag(); }

 private:
  RuntimeService(ServiceConfig config, ServiceDependencies dependencies, HostFacts host,
                 std::string boot_id, std::unique_ptr<Registry> registry,
                 std::unique_ptr<EventLoop> loop);

  // --- status.cc
  // OK when every program that a pod needs can be executed.
  absl::Status ProgramsReady() const;
  // OK when the programs of all handlers can be executed.
  absl::Status HandlersReady() const;
  // Handlers::Find, the default one for an empty name.
  absl::StatusOr<const Handler*> FindHandler(const std::string& name);
  // FAILED_PRECONDITION when the pod wants a user namespace that `handler` or this host cannot
  // give.
  absl::Status CheckUserNamespaceSupport(const cri::PodSandboxConfig& config,
                                         const Handler& handler) const;
  // The handler a container was made with, also after its configuration changed.
  Runtime RuntimeOf(const state::ContainerRecord& record) const;

  // --- security.cc
  // What RuntimeDefault stands for. Fails for a seccomp_profile that cannot be used.
  absl::Status PrepareSecurity();
  // Gives the pod its SELinux labels, in its record.
  absl::Status LabelPod(Pod* pod);
  // Relabels those of the container's volumes, `sources`, that ask for it. Before any lease: it may
  // take minutes.
  absl::Status RelabelVolumes(const Context& ctx, const Pod& pod,
                              const cri::ContainerConfig& config,
                              const std::vector<MountSource>& sources);

  // --- pods.cc
  absl::StatusOr<std::string> CreatePod(const Context& ctx,
                                        const cri::RunPodSandboxRequest& request);
  absl::Status SetUpPod(const Context& ctx, Pod* pod);
  using PodEnd = absl::Status (RuntimeService::*)(const Context&, const base::PodId&);
  // Cancels the pod's running creates, then calls `end` under its exclusive lease. OK for no pod.
  absl::Status EndPod(const Context& ctx, const std::string& id_or_prefix, PodEnd end);
  absl::Status StopPod(const Context& ctx, const base::PodId& id);
  absl::Status RemovePod(const Context& ctx, const base::PodId& id);

  // --- pod_cgroup.cc
  // Puts the driver and the path of the pod's cgroup into its record; INVALID_ARGUMENT when
  // linux.cgroup_parent is none of the driver.
  absl::Status PlanPodCgroup(Pod* pod) const;
  // Removes the cgroup of a pod that named no parent; another one is its caller's.
  absl::Status RemovePodCgroup(const Context& ctx, const Pod& pod) const;

  // --- pod_attachment.cc
  // Puts into the record what a DEL needs, so that the record that comes before the ADD has it.
  absl::Status PlanNetwork(Pod* pod);
  absl::Status AttachPod(const Context& ctx, Pod* pod);
  // Detaches the pod from its network, or leaves a debt that is retried in the background. Does
  // nothing when there is one already.
  void DetachPod(const Context& ctx, Pod* pod);
  void OweDetach(const Pod& pod, std::string_view cause, network::DetachDebts::FirstTry first);
  void DetachPaid(const base::PodId& id);
  // Whether the debt failed so often that garbage collection may end it.
  static bool CollectionHelps(const network::DetachDebts::Debt& debt);

  // --- network_upkeep.cc
  // Collects garbage in the background, soon.
  void RequestNetworkGc();
  void CollectNetworkGarbage();
  absl::StatusOr<std::vector<network::ValidAttachment>> ValidAttachments() const;
  // Makes records, from which a detach is owed, of pods whose own were damaged.
  void SalvageDetaches();
  absl::Status SalvageDetach(const base::PodId& id, const std::string& bytes);

  // --- pod_resources.cc
  absl::Status PinPodNamespaces(Pod* pod);
  absl::Status MakePodFiles(const Pod& pod);
  struct NewContainer;  // What CreateContainer gathers before anything is made.
  // A container as it is while nobody else changes it.
  struct LeasedContainer {
    Leases::Lease pod;  // Shared.
    Leases::Lease own;  // Exclusive.
    ContainerRef container;
  };
  // Waits for both leases within the context. NOT_FOUND when the container has gone meanwhile.
  absl::StatusOr<LeasedContainer> LeaseContainer(const Context& ctx, const Container& found);
  struct HostParts;  // And what the host tells of it.
  // The holder of a shared PID namespace; refuses what of the pod's security context cannot be had.
  absl::StatusOr<NewContainer> PlanInfra(const Pod& pod);
  absl::Status StartInfra(const Context& ctx, Pod* pod);
  bool PodReady(const Pod& pod) const;
  // Removes everything of the pod but its record; what is owed stays owed.
  absl::Status ReleasePod(const Context& ctx, Pod* pod);
  // ReleasePod, then the record, unless a DEL is still owed: then the record waits as REMOVING.
  absl::Status DiscardPod(const Context& ctx, Pod pod);

  // --- containers.cc
  // The id of the container that an equal request made, empty when it is to be made; an error when
  // it cannot be.
  absl::StatusOr<std::string> AlreadyCreated(const base::PodId& pod,
                                             const cri::ContainerConfig& config);
  absl::StatusOr<std::string> CreateInPod(const Context& ctx, const PodRef& pod,
                                          const cri::ContainerConfig& config);
  absl::StatusOr<NewContainer> PlanContainer(const Context& ctx, const Pod& pod,
                                             const cri::ContainerConfig& config, HostParts host);
  absl::Status PlanSecurity(const Pod& pod, NewContainer* plan);
  // --- container_host.cc
  // Looks at every path of the host that the request or the configuration names, with a limit of
  // its own (host_paths.h). To be called without a lease.
  absl::StatusOr<HostParts> LookAtHost(const Context& ctx, const Pod& pod,
                                       const cri::ContainerConfig& config);
  // --- containers.cc
  absl::StatusOr<std::string> MakeContainer(const Context& ctx, const Pod& pod, NewContainer plan);
  absl::Status StartCreated(Container container);

  // --- container_resources.cc
  absl::Status WriteBundle(const Context& ctx, const Pod& pod, NewContainer* plan);
  absl::StatusOr<NamespacePaths> NamespacesFor(const Pod& pod,
                                               const cri::ContainerConfig& config) const;
  // The pod's own user namespace; nothing when it has the host's.
  std::optional<base::UserNamespace> UserNamespaceOf(const Pod& pod) const;
  // Makes what a container in a user namespace needs besides its root file system. Returns what is
  // to be bound on /sys, empty where a new one can be mounted.
  absl::StatusOr<std::string> PrepareUserNamespace(const Pod& pod, const base::UserNamespace& user,
                                                   NewContainer* plan);
  absl::Status CreateWithMonitor(const Context& ctx, NewContainer* plan);
  absl::Status CheckTarget(const cri::ContainerConfig& config) const;
  // Kills the container if it runs, and removes everything of it, its record last.
  absl::Status DiscardContainer(const Context& ctx, Container container);

  // --- image_volumes.cc
  // Finds and pins the images that are volumes of `plan`'s container, and notes them in its record.
  absl::Status AcquireImageVolumes(NewContainer* plan);
  // Mounts them and fills in the sources of their mounts. DiscardContainer unmounts them.
  absl::Status MountImageVolumes(const Context& ctx, const Pod& pod, NewContainer* plan);
  // Makes the folders that the image declares as volumes, but for those that a mount of the request
  // covers.
  absl::Status MakeDeclaredVolumes(const Context& ctx, NewContainer* plan);
  // The pins of the container's own image and of its volumes, for one known from a record.
  void PinImages(const state::ContainerRecord& record);
  void ReleaseImages(const base::ContainerId& id, const state::ContainerRecord& record);

  // --- stop.cc
  void HandleExit(const base::ContainerId& id, absl::StatusOr<ExitRecord> exit);
  // Adds the exit to the durable record, under the container's lease.
  void KeepExit(const base::ContainerId& id);
  // Notes when the container's monitor was found gone; returns the time noted first.
  absl::Time RecordLost(const base::ContainerId& id);
  void ShowExit(const base::ContainerId& id, const ExitRecord& exit);
  bool HasOwnPidNamespace(const Container& container) const;
  // The container's init is gone: so must be the rest where the kernel does not see to that.
  void HandleInitEnd(const base::ContainerId& id);
  // Signals the container's init; does not wait.
  void SignalContainer(const Container& container, int signal);
  // SIGKILL to what is in the container's cgroup, in the background.
  void KillRest(const Container& container);
  // SIGKILL to everything in the container; does not wait.
  void KillContainer(const Container& container);
  // SIGKILLs and waits for the end.
  absl::Status KillAndWait(const Context& ctx, const Container& container);

  // --- sandbox.cc
  absl::Status StartByMonitor(const Context& ctx, const Container& container);
  void SignalSandboxed(const Container& container, int signal);
  // --- updates.cc
  // Merges `update` over the limits in force and records them; needs the container's lease. When
  // it fails, the old limits are in force again as far as the runtime can do that.
  absl::Status ChangeResources(const Context& ctx, const Container& container,
                               const cri::LinuxContainerResources& update);

  // --- exec.cc
  enum class Terminal { kNo, kYes };
  // The OCI process object of `cmd` in the container, as JSON.
  absl::StatusOr<std::string> ExecProcess(const Container& container,
                                          const std::vector<std::string>& cmd,
                                          Terminal terminal) const;
  // An exec whose files are in `directory`.
  ExecSpec ExecSpecIn(const std::string& directory, const Container& container,
                      Terminal terminal) const;
  // --- streams_verbs.cc
  absl::StatusOr<crisp::stream::Session> ExecSession(const Container& container,
                                                     const cri::ExecRequest& request,
                                                     const std::string& instance) const;

  // --- exec_ends.cc
  // Kills what the exec with these files started in its container.
  void KillExec(const std::string& directory) const;
  // The sessions of processes that entered `container` from outside and that nobody waits for.
  std::set<pid_t> EnteredSessions(const Container& container) const;
  // Kills and removes what ExecSync of the last daemon left.
  void RecoverExecs();

  // --- queries.cc
  cri::PodSandbox PodItem(const Pod& pod) const;
  cri::PodSandboxStatus PodStatus(const Pod& pod) const;
  cri::ContainerStatus StatusOf(const Container& container) const;

  // --- verbose.cc: JSON
  std::string PodInfo(const Pod& pod) const;
  std::string ContainerInfo(const Container& container) const;
  std::map<std::string, std::string> DaemonInfo() const;

  // --- recovery.cc
  void Recover();
  void RecoverContainer(const Container& container);
  absl::Status Reconnect(const Context& ctx, const Container& container);
  void TakeUpLater(const base::ContainerId& id);
  void RecoverPod(const Pod& pod);
  // Ends and removes what belongs to no record, such as one that was damaged.
  void SweepStrays();
  absl::Status SweepContainer(const Context& ctx, const std::string& name);
  absl::Status SweepNamespaces(const std::string& name);

  const ServiceConfig config_;
  const ServiceDependencies uses_;
  const HostFacts host_;
  const Paths paths_;
  const std::string boot_id_;
  const absl::Status user_namespaces_;  // ProbeUserNamespaces, once at the start.
  Handlers handlers_;
  SeccompFilters seccomp_;
  ContainerDevices devices_;
  AppArmorProfiles apparmor_;
  Selinux selinux_;
  base::Lane relabel_;
  HostPaths host_paths_;
  Leases leases_;
  Creations creations_;
  const std::unique_ptr<Registry> registry_;
  std::unique_ptr<EventLoop> loop_;
  ExitWatch exits_;
  StreamServers streams_;
  PodRanges pod_ranges_;
  std::atomic<bool> network_gc_wanted_ = false;
  std::atomic<bool> network_gc_done_ = false;  // Once since the start.
  const std::shared_ptr<base::Cancellation> network_gc_stop_ =
      std::make_shared<base::Cancellation>();
  // The destructor stops them before the loop, which their tasks use.
  base::Lane gc_;
  base::Lane network_gc_;
};

}  // namespace runtimeservice
