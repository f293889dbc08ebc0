#include "imageservice/store/writable_usage.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/strings.h"

namespace imageservice {
namespace {

// Projects are numbered from here on ("CRS" and a zero), far from where the kubelet (1048577) and
// people (0) begin.
constexpr uint32_t kFirstProject = 0x43525300;
constexpr int kMaxTries = 4096;

constexpr absl::Duration kLongestTurn = absl::Milliseconds(500);
constexpr int kPausePerTurn = 20;  // In times of what the turn took.

}  // namespace

WritableUsage::WritableUsage(std::string parent, absl::Duration interval)
    : parent_(std::move(parent)),
      interval_(interval),
      next_project_(kFirstProject),
      lane_("disk-usage", 1, 16) {
  if (absl::StatusOr<ProjectQuota> quota = ProjectQuota::Open(parent_); quota.ok()) {
    quota_.emplace(*std::move(quota));
    base::LogInfo("project quotas count what containers write below ", parent_);
  }
}

WritableUsage::~WritableUsage() { stop_ = true; }

void WritableUsage::Begin(const std::string& name) {
  if (!quota_) {
    return;
  }
  const std::string directory = base::StrCat(parent_, "/", name);
  absl::Status status = absl::ResourceExhaustedError("no project is free");
  for (int i = 0; i < kMaxTries; ++i) {
    // A project in use has at least its directory: those of an earlier life are found this way.
    const uint32_t project = next_project_.fetch_add(1);
    const absl::StatusOr<DiskUsage> usage = quota_->Usage(project);
    if (!usage.ok()) {
      status = usage.status();
      break;
    }
    if (*usage == DiskUsage()) {
      status = quota_->Assign(directory, project);
      break;
    }
  }
  if (!status.ok()) {
    base::LogWarning("container ", name, " is measured by walks: ", base::ToStd(status.message()));
  }
}

// Nothing for a directory that is no project: it is older than the quota.
std::optional<DiskUsage> WritableUsage::CountedByQuota(const std::string& name) const {
  if (!quota_) {
    return std::nullopt;
  }
  const absl::StatusOr<uint32_t> project = quota_->ProjectOf(base::StrCat(parent_, "/", name));
  if (!project.ok() || *project == 0) {
    return std::nullopt;
  }
  const absl::StatusOr<DiskUsage> usage = quota_->Usage(*project);
  return usage.ok() ? std::optional(*usage) : std::nullopt;
}

std::optional<WritableUsage::Sample> WritableUsage::Of(const std::string& name) {
  const absl::Time now = absl::Now();
  if (const std::optional<DiskUsage> counted = CountedByQuota(name)) {
    return Sample{.used = *counted, .measured = now};
  }
  base::MutexLock lock(&mutex_);
  const auto [found, added] = entries_.try_emplace(name);
  Entry& entry = found->second;
  if (added) {
    entry.life = ++lives_;
    entry.due = now;
  }
  if (!entry.waiting && now >= entry.due) {
    entry.waiting = true;
    waiting_.emplace_back(name, entry.life);
  }
  if (!walking_ && !waiting_.empty() && now >= next_walks_) {
    walking_ = lane_.Post([this] { WalkSome(); }).ok();
  }
  return entry.sample;
}

void WritableUsage::WalkSome() {
  const absl::Time begin = absl::Now();
  while (!stop_ && absl::Now() - begin < kLongestTurn) {
    std::pair<std::string, uint64_t> next;
    {
      base::MutexLock lock(&mutex_);
      if (waiting_.empty()) {
        break;
      }
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    Walk(next.first, next.second);
  }
  base::MutexLock lock(&mutex_);
  const absl::Time end = absl::Now();
  walking_ = false;
  next_walks_ = end + kPausePerTurn * (end - begin);
}

void WritableUsage::Walk(const std::string& name, uint64_t life) {
  {
    base::MutexLock lock(&mutex_);
    const auto found = entries_.find(name);
    if (found == entries_.end() || found->second.life != life) {
      return;
    }
  }
  const absl::StatusOr<DiskUsage> used = MeasureTree(base::StrCat(parent_, "/", name), stop_);
  base::MutexLock lock(&mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end() || found->second.life != life) {
    return;
  }
  Entry& entry = found->second;
  const absl::Time now = absl::Now();
  entry.waiting = false;
  entry.due = now + interval_;
  if (used.ok()) {
    entry.sample = {.used = *used, .measured = now};
  } else if (absl::IsNotFound(used.status())) {
    entries_.erase(found);  // Nobody may ask for it again.
  } else if (!absl::IsCancelled(used.status())) {
    base::LogWarning("disk usage of container ", name, ": ", base::ToStd(used.status().message()));
  }
}

DiskUsage WritableUsage::End(const std::string& name) {
  const std::optional<DiskUsage> counted = CountedByQuota(name);
  base::MutexLock lock(&mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    return counted.value_or(DiskUsage());
  }
  const DiskUsage known = found->second.sample ? found->second.sample->used : DiskUsage();
  entries_.erase(found);
  return counted.value_or(known);
}

}  // namespace imageservice
