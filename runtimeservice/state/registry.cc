#include "runtimeservice/state/registry.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

// Finds the one object whose id begins with `prefix`; `visible` says which count.
template <typename Id, typename Ref, typename Visible>
absl::StatusOr<Ref> Resolve(const std::map<Id, Ref>& objects, std::string_view prefix,
                            std::string_view kind, Visible visible) {
  if (prefix.empty()) {
    return absl::InvalidArgumentError(base::StrCat("the ", kind, " id is empty"));
  }
  Ref found;
  for (const auto& [id, ref] : objects) {
    if (id.str().compare(0, prefix.size(), prefix.data(), prefix.size()) != 0 || !visible(*ref)) {
      continue;
    }
    if (found) {
      return absl::InvalidArgumentError(
          base::StrCat(kind, " id prefix ", prefix, " is ambiguous: it begins more than one id"));
    }
    found = ref;
  }
  if (!found) {
    return absl::NotFoundError(base::StrCat("no ", kind, " ", prefix));
  }
  return found;
}

template <typename Ref>
void SortByCreation(std::vector<Ref>* refs) {
  std::sort(refs->begin(), refs->end(), [](const Ref& a, const Ref& b) {
    return std::make_pair(a->record.created_at(), a->id) <
           std::make_pair(b->record.created_at(), b->id);
  });
}

absl::StatusOr<Pod> ParsePod(const std::string& name, const std::string& bytes) {
  ASSIGN_OR_RETURN(base::PodId id, base::PodId::Parse(name));
  state::PodRecord record;
  if (!record.ParseFromString(bytes) || record.id() != name) {
    return absl::DataLossError("not a pod's record");
  }
  return Pod{.id = std::move(id), .record = std::move(record)};
}

absl::StatusOr<Container> ParseContainer(const std::string& name, const std::string& bytes) {
  ASSIGN_OR_RETURN(base::ContainerId id, base::ContainerId::Parse(name));
  state::ContainerRecord record;
  if (!record.ParseFromString(bytes) || record.id() != name) {
    return absl::DataLossError("not a container's record");
  }
  ASSIGN_OR_RETURN(base::PodId pod, base::PodId::Parse(record.pod_id()));
  return Container{.id = std::move(id), .pod = std::move(pod), .record = std::move(record)};
}

constexpr char kRunRecord[] = "state";
constexpr base::Durability kOrdered = base::Durability::kOrdered;
constexpr base::Durability kDurable = base::Durability::kDurable;

}  // namespace

cri::ContainerState Container::CriState() const {
  if (exit.has_value()) {
    return cri::CONTAINER_EXITED;
  }
  return run.started_at() != 0 ? cri::CONTAINER_RUNNING : cri::CONTAINER_CREATED;
}

const cri::LinuxContainerResources& Container::Resources() const {
  return run.has_resources() ? run.resources() : record.config().linux().resources();
}

std::string PodName(const cri::PodSandboxMetadata& metadata) {
  return base::StrCat("k8s_", metadata.name(), "_", metadata.namespace_(), "_", metadata.uid(), "_",
                      metadata.attempt());
}

std::string ContainerName(const cri::ContainerMetadata& container,
                          const cri::PodSandboxMetadata& pod) {
  return base::StrCat("k8s_", container.name(), "_", pod.name(), "_", pod.namespace_(), "_",
                      pod.uid(), "_", container.attempt());
}

absl::StatusOr<std::unique_ptr<Registry>> Registry::Open(const std::string& root,
                                                         const std::string& run_root) {
  ASSIGN_OR_RETURN(base::RecordStore pods,
                   base::RecordStore::Open(root + "/records/pods", base::Durability::kDurable));
  ASSIGN_OR_RETURN(
      base::RecordStore containers,
      base::RecordStore::Open(root + "/records/containers", base::Durability::kDurable));
  std::unique_ptr<Registry> registry(
      new Registry(std::move(pods), std::move(containers), run_root));
  RETURN_IF_ERROR(registry->Load());
  return registry;
}

absl::Status Registry::Load() {
  ASSIGN_OR_RETURN(const base::RecordStore::Loaded pods, pod_records_.Load());
  for (const auto& [name, bytes] : pods.records) {
    absl::StatusOr<Pod> pod = ParsePod(name, bytes);
    if (!pod.ok()) {
      base::LogError("set aside pod record ", name, ": ", base::ToStd(pod.status().message()));
      RETURN_IF_ERROR(pod_records_.SetAside(name));
      continue;
    }
    Show(*std::move(pod));
  }
  ASSIGN_OR_RETURN(const base::RecordStore::Loaded containers, container_records_.Load());
  for (const auto& [name, bytes] : containers.records) {
    absl::StatusOr<Container> container = ParseContainer(name, bytes);
    if (!container.ok()) {
      base::LogError("set aside container record ", name, ": ",
                     base::ToStd(container.status().message()));
      RETURN_IF_ERROR(container_records_.SetAside(name));
      continue;
    }
    const std::string directory = base::StrCat(run_root_, "/containers/", name);
    if (base::Exists(directory)) {
      ASSIGN_OR_RETURN(const base::RecordStore run,
                       base::RecordStore::Open(directory, base::Durability::kVolatile));
      const absl::StatusOr<std::string> bytes_of_run = run.Get(kRunRecord);
      if (bytes_of_run.ok() && !container->run.ParseFromString(*bytes_of_run)) {
        base::LogError("the run record of container ", name, " is damaged");
      }
    }
    Show(*std::move(container));
  }
  return absl::OkStatus();
}

absl::Status Registry::Write(const Pod& pod) const {
  return pod_records_.Put(pod.id.str(), pod.record.SerializeAsString(),
                          pod.record.state() == state::PodRecord::READY ? kDurable : kOrdered);
}

absl::Status Registry::Write(const Container& container) const {
  return container_records_.Put(
      container.id.str(), container.record.SerializeAsString(),
      container.record.state() == state::ContainerRecord::CREATED ? kDurable : kOrdered);
}

absl::Status Registry::PutPod(Pod pod) {
  RETURN_IF_ERROR(Write(pod));
  Show(std::move(pod));
  return absl::OkStatus();
}

void Registry::Show(Pod pod) {
  const base::PodId id = pod.id;
  const std::string name = PodName(pod.record.config().metadata());
  base::MutexLock lock(&mutex_);
  // One that is on its way out gives its name to whoever wants it.
  const auto holder = pod_names_.find(name);
  const bool leaving = pod.record.state() == state::PodRecord::REMOVING;
  if (holder == pod_names_.end() || !leaving || !pods_.contains(holder->second)) {
    pod_names_.insert_or_assign(name, id);
  }
  pods_[id] = std::make_shared<const Pod>(std::move(pod));
}

void Registry::ShowPod(Pod pod) {
  const absl::Status put = Write(pod);
  if (!put.ok()) {
    base::LogError("the record of pod ", pod.id.str(),
                   " stays as it was: ", base::ToStd(put.message()));
  }
  Show(std::move(pod));
}

void Registry::ShowContainer(Container container) {
  const absl::Status put = Write(container);
  if (!put.ok()) {
    base::LogError("the record of container ", container.id.str(),
                   " stays as it was: ", base::ToStd(put.message()));
  }
  Show(std::move(container));
}

absl::Status Registry::PutContainer(Container container) {
  RETURN_IF_ERROR(Write(container));
  Show(std::move(container));
  return absl::OkStatus();
}

void Registry::Show(Container container) {
  const base::ContainerId id = container.id;
  base::MutexLock lock(&mutex_);
  const auto pod = pods_.find(container.pod);
  if (pod != pods_.end()) {
    container_names_.insert_or_assign(ContainerName(container.record.config().metadata(),
                                                    pod->second->record.config().metadata()),
                                      id);
  }
  // What is known of the process is newer than the caller's copy.
  if (const auto before = containers_.find(id); before != containers_.end()) {
    const Container& known = *before->second;
    container.run = known.run;
    container.exit = known.exit;
    container.pid = known.exit.has_value() ? 0 : known.pid != 0 ? known.pid : container.pid;
  }
  containers_[id] = std::make_shared<const Container>(std::move(container));
}

absl::Status Registry::PutRun(const base::ContainerId& id, state::ContainerRunRecord run) {
  const base::RecordStore store = base::RecordStore::Existing(
      base::StrCat(run_root_, "/containers/", id.str()), base::Durability::kVolatile);
  RETURN_IF_ERROR(store.Put(kRunRecord, run.SerializeAsString()));
  Change(id, [&](Container* container) { container->run = std::move(run); });
  return absl::OkStatus();
}

void Registry::SetPid(const base::ContainerId& id, pid_t pid) {
  Change(id, [&](Container* container) { container->pid = pid; });
}

void Registry::SetExit(const base::ContainerId& id, const ExitRecord& exit) {
  Change(id, [&](Container* container) {
    if (!container->exit.has_value()) {
      container->pid = 0;
      container->exit = exit;
    }
  });
}

void Registry::Change(const base::ContainerId& id, const std::function<void(Container*)>& change) {
  base::MutexLock lock(&mutex_);
  const auto found = containers_.find(id);
  if (found != containers_.end()) {
    auto changed = std::make_shared<Container>(*found->second);
    change(changed.get());
    found->second = std::move(changed);
  }
}

absl::Status Registry::DeletePod(const base::PodId& id) {
  RETURN_IF_ERROR(pod_records_.Delete(id.str(), kOrdered));
  base::MutexLock lock(&mutex_);
  pods_.erase(id);
  std::erase_if(pod_names_, [&](const auto& entry) { return entry.second == id; });
  return absl::OkStatus();
}

absl::Status Registry::DeleteContainer(const base::ContainerId& id) {
  RETURN_IF_ERROR(container_records_.Delete(id.str(), kOrdered));
  base::MutexLock lock(&mutex_);
  containers_.erase(id);
  std::erase_if(container_names_, [&](const auto& entry) { return entry.second == id; });
  return absl::OkStatus();
}

std::map<base::PodId, std::string> Registry::DamagedPods() const {
  std::map<base::PodId, std::string> damaged;
  for (auto& [name, bytes] : pod_records_.Damaged()) {
    if (const absl::StatusOr<base::PodId> id = base::PodId::Parse(name); id.ok()) {
      damaged.emplace(*id, bytes);
    }
  }
  return damaged;
}

void Registry::ForgetDamagedPod(const base::PodId& id) {
  const absl::Status marked = pod_records_.MarkDamaged(id.str());
  if (!marked.ok()) {
    base::LogError(base::ToStd(marked.message()));
  }
}

PodRef Registry::FindPod(const base::PodId& id) const {
  base::MutexLock lock(&mutex_);
  const auto found = pods_.find(id);
  return found == pods_.end() ? nullptr : found->second;
}

ContainerRef Registry::FindContainer(const base::ContainerId& id) const {
  base::MutexLock lock(&mutex_);
  const auto found = containers_.find(id);
  return found == containers_.end() ? nullptr : found->second;
}

PodRef Registry::FindPodByName(const std::string& name) const {
  base::MutexLock lock(&mutex_);
  const auto found = pod_names_.find(name);
  return found == pod_names_.end() ? nullptr : pods_.at(found->second);
}

ContainerRef Registry::FindContainerByName(const std::string& name) const {
  base::MutexLock lock(&mutex_);
  const auto found = container_names_.find(name);
  return found == container_names_.end() ? nullptr : containers_.at(found->second);
}

absl::StatusOr<PodRef> Registry::ResolvePod(std::string_view id_or_prefix) const {
  base::MutexLock lock(&mutex_);
  return Resolve(pods_, id_or_prefix, "pod sandbox",
                 [](const Pod& pod) { return pod.record.state() != state::PodRecord::CREATING; });
}

absl::StatusOr<ContainerRef> Registry::ResolveContainer(std::string_view id_or_prefix) const {
  base::MutexLock lock(&mutex_);
  return Resolve(containers_, id_or_prefix, "container", [](const Container& container) {
    return container.record.state() != state::ContainerRecord::CREATING &&
           !container.record.infra();
  });
}

std::vector<PodRef> Registry::Pods() const {
  std::vector<PodRef> pods;
  {
    base::MutexLock lock(&mutex_);
    for (const auto& [id, pod] : pods_) {
      pods.push_back(pod);
    }
  }
  SortByCreation(&pods);
  return pods;
}

std::vector<ContainerRef> Registry::Containers() const {
  std::vector<ContainerRef> containers;
  {
    base::MutexLock lock(&mutex_);
    for (const auto& [id, container] : containers_) {
      containers.push_back(container);
    }
  }
  SortByCreation(&containers);
  return containers;
}

std::vector<ContainerRef> Registry::ContainersOf(const base::PodId& pod) const {
  std::vector<ContainerRef> containers = Containers();
  std::erase_if(containers, [&](const ContainerRef& container) { return container->pod != pod; });
  return containers;
}

}  // namespace runtimeservice
