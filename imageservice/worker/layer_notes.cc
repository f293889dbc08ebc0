#include "imageservice/worker/layer_notes.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace imageservice::worker {
namespace {

using Kind = DeferredOperation::Kind;

constexpr size_t kMaxTrackedBytes = 192 << 20;
// What a container's node costs beside its text.
constexpr size_t kNoteBytes = 100;
constexpr size_t kDirectoryBytes = 250;

const std::string& PathOf(const std::string& path) { return path; }
template <typename Value>
const std::string& PathOf(const std::pair<const std::string, Value>& entry) {
  return entry.first;
}

// Erases from a map or set of paths `path` and what is below it.
template <typename Paths>
void EraseTree(Paths* paths, const std::string& path) {
  paths->erase(path);
  const std::string below = path + "/";
  auto it = paths->lower_bound(below);
  while (it != paths->end() && PathOf(*it).starts_with(below)) {
    it = paths->erase(it);
  }
}

}  // namespace

absl::Status LayerNotes::AddDirectory(const std::string& path, const FileMetadata& metadata) {
  size_t bytes = path.size() + kDirectoryBytes;
  for (const auto& [name, value] : metadata.xattrs) {
    bytes += name.size() + value.size() + kNoteBytes;
  }
  RETURN_IF_ERROR(Track(bytes));
  implicit_.erase(path);
  directories_.insert_or_assign(path, metadata);
  return absl::OkStatus();
}

absl::Status LayerNotes::AddImplicit(const std::string& path) {
  RETURN_IF_ERROR(Track(path.size() + kNoteBytes));
  implicit_.insert(path);
  return absl::OkStatus();
}

absl::Status LayerNotes::AddOpaque(const std::string& path) {
  RETURN_IF_ERROR(Track(path.size() + kNoteBytes));
  opaque_.insert(path);
  return absl::OkStatus();
}

absl::Status LayerNotes::Defer(DeferredOperation operation) {
  RETURN_IF_ERROR(Track(2 * operation.path.size() + operation.target.size() + 3 * kNoteBytes));
  std::string path = operation.path;
  deferred_.insert_or_assign(std::move(path), Deferred{deferred_seen_++, std::move(operation)});
  return absl::OkStatus();
}

void LayerNotes::Forget(const std::string& path) {
  EraseTree(&directories_, path);
  EraseTree(&implicit_, path);
  EraseTree(&opaque_, path);
  EraseTree(&deferred_, path);
}

absl::Status LayerNotes::Track(size_t bytes) {
  tracked_bytes_ += bytes;
  if (tracked_bytes_ > kMaxTrackedBytes) {
    return absl::ResourceExhaustedError("the layer has too many directories");
  }
  return absl::OkStatus();
}

uint64_t LayerNotes::nodes() const {
  return static_cast<uint64_t>(std::ranges::count_if(
      deferred_, [](const auto& entry) { return entry.second.operation.kind == Kind::kNode; }));
}

absl::StatusOr<std::vector<DeferredOperation>> LayerNotes::Operations() const {
  // Nodes and links first: making one changes the times of its directory.
  std::vector<const Deferred*> arrived;
  arrived.reserve(deferred_.size());
  for (const auto& [path, deferred] : deferred_) {
    arrived.push_back(&deferred);
  }
  std::ranges::sort(arrived, {}, &Deferred::order);
  std::vector<DeferredOperation> operations;
  for (const Deferred* deferred : arrived) {
    operations.push_back(deferred->operation);
  }
  for (const std::string& path : opaque_) {
    operations.push_back({.kind = Kind::kOpaque, .path = path});
  }
  for (const std::string& path : implicit_) {
    operations.push_back({.kind = Kind::kCopyMetadata, .path = path});
  }
  DeferredTotal total;
  for (const DeferredOperation& operation : operations) {
    RETURN_IF_ERROR(total.Add(operation));
  }
  return operations;
}

}  // namespace imageservice::worker
