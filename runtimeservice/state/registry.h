// Pods and containers: in memory for the readers, on disk for the next start.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/id.h"
#include "base/mutex.h"
#include "base/record_store.h"
#include "proto/cri.h"
#include "proto/state.pb.h"
#include "runtimeservice/oci/monitor.h"

namespace runtimeservice {

namespace state = crisp::state;

// The last committed state of a pod. Immutable: a change replaces it.
struct Pod {
  base::PodId id;
  state::PodRecord record;
};

// The last committed state of a container.
struct Container {
  base::ContainerId id;
  base::PodId pod;
  state::ContainerRecord record;
  state::ContainerRunRecord run;
  pid_t pid = 0;                   // Of its init while that runs.
  std::optional<ExitRecord> exit;  // Once it has ended.

  cri::ContainerState CriState() const;
  // The limits as asked for: at the create, or by the updates since.
  const cri::LinuxContainerResources& Resources() const;
};

using PodRef = std::shared_ptr<const Pod>;
using ContainerRef = std::shared_ptr<const Container>;

// The names that must be unique (cri-semantics: sandbox and container names from the metadata).
std::string PodName(const cri::PodSandboxMetadata& metadata);
std::string ContainerName(const cri::ContainerMetadata& container,
                          const cri::PodSandboxMetadata& pod);

// Thread-safe; readers get the last committed state and hold nothing. Writers of one object take
// its lease first. Files are written outside the lock.
class Registry {
 public:
  // Opens `<root>/records/{pods,containers}` and keeps run records in `<run_root>/containers/<id>`.
  static absl::StatusOr<std::unique_ptr<Registry>> Open(const std::string& root,
                                                        const std::string& run_root);

  // Writes the record, then shows it. Durably when it says READY or CREATED: the caller is told of
  // that. Any other state is on its way up or down and need only be on the disk before what comes
  // after it (base::Durability::kOrdered): a power loss that takes it takes that too, and what it
  // leaves of an older state can be released again.
  absl::Status PutPod(Pod pod);
  absl::Status PutContainer(Container container);
  // The same for what is on its way out: a disk that is full must not keep it. When the record
  // cannot be written it is logged and shown nevertheless; a restart then finds more to do.
  void ShowPod(Pod pod);
  void ShowContainer(Container container);
  // Writes `run` to /run (it need not survive power loss), then shows it with the container.
  absl::Status PutRun(const base::ContainerId& id, state::ContainerRunRecord run);
  // What only memory knows, since a monitor's file or the kernel is the record: the container's
  // init, and its end. Does nothing for an unknown container; the first exit stays.
  void SetPid(const base::ContainerId& id, pid_t pid);
  void SetExit(const base::ContainerId& id, const ExitRecord& exit);
  // Deletes the record durably, then hides the object. OK if there is none.
  absl::Status DeletePod(const base::PodId& id);
  absl::Status DeleteContainer(const base::ContainerId& id);

  // The bytes of damaged pod records that were set aside, and that nobody has dealt with.
  std::map<base::PodId, std::string> DamagedPods() const;
  void ForgetDamagedPod(const base::PodId& id);

  // Null when there is none.
  PodRef FindPod(const base::PodId& id) const;
  ContainerRef FindContainer(const base::ContainerId& id) const;
  PodRef FindPodByName(const std::string& name) const;
  ContainerRef FindContainerByName(const std::string& name) const;

  // By id or unique prefix of one. INVALID_ARGUMENT for an empty, malformed or ambiguous text,
  // NOT_FOUND when there is none. Objects being created are not found.
  absl::StatusOr<PodRef> ResolvePod(std::string_view id_or_prefix) const;
  absl::StatusOr<ContainerRef> ResolveContainer(std::string_view id_or_prefix) const;

  // Everything, those being created and infra containers included, in order of creation.
  std::vector<PodRef> Pods() const;
  std::vector<ContainerRef> Containers() const;
  std::vector<ContainerRef> ContainersOf(const base::PodId& pod) const;

 private:
  Registry(base::RecordStore pods, base::RecordStore containers, std::string run_root)
      : pod_records_(std::move(pods)),
        container_records_(std::move(containers)),
        run_root_(std::move(run_root)) {}
  absl::Status Load();
  absl::Status Write(const Pod& pod) const;
  absl::Status Write(const Container& container) const;
  void Show(Pod pod);
  void Show(Container container);
  void Change(const base::ContainerId& id, const std::function<void(Container*)>& change);

  const base::RecordStore pod_records_;
  const base::RecordStore container_records_;
  const std::string run_root_;

  mutable base::Mutex mutex_;
  std::map<base::PodId, PodRef> pods_ ABSL_GUARDED_BY(mutex_);
  std::map<base::ContainerId, ContainerRef> containers_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, base::PodId> pod_names_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, base::ContainerId> container_names_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace runtimeservice
