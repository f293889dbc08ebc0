// How much the containers' writable directories take.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "base/lane.h"
#include "base/mutex.h"
#include "imageservice/store/disk_usage.h"
#include "imageservice/store/project_quota.h"

namespace imageservice {

// Asking is always cheap. Where the file system counts projects (project_quota.h), each directory
// is one and the kernel knows the answer of this moment. Elsewhere a directory is walked in the
// background when somebody asks and the last answer is older than an interval. The walks of all
// directories run one after the other, for half a second at a time (one that takes longer is
// finished) and then not for 20 times as long: measuring takes at most a twentieth of one
// processor, and nothing when nobody asks. Thread-safe.
class WritableUsage {
 public:
  // A figure and when it was right.
  struct Sample {
    DiskUsage used;
    absl::Time measured;
  };

  // For the directories in `parent`, which exists. None is walked twice within `interval`.
  explicit WritableUsage(std::string parent, absl::Duration interval = absl::Seconds(30));
  ~WritableUsage();  // Ends a walk that is under way.

  // Makes `name`, an empty directory just made, a project where there are such.
  void Begin(const std::string& name);
  // What is known of `name`; nothing when it has not been measured yet, or is not there.
  std::optional<Sample> Of(const std::string& name);
  // Forgets `name`, which is about to be renamed away, and returns what is known of it.
  DiskUsage End(const std::string& name);

  // Whether the file system counts by itself.
  bool counted_by_quota() const { return quota_.has_value(); }

 private:
  struct Entry {
    std::optional<Sample> sample;
    absl::Time due;        // Not to be walked again before.
    bool waiting = false;  // For its walk, or being walked.
    uint64_t life = 0;     // Tells apart directories that had the same name one after the other.
  };

  std::optional<DiskUsage> CountedByQuota(const std::string& name) const;
  void WalkSome();
  void Walk(const std::string& name, uint64_t life);

  const std::string parent_;
  const absl::Duration interval_;
  std::optional<ProjectQuota> quota_;
  std::atomic<uint32_t> next_project_;
  std::atomic<bool> stop_ = false;

  base::Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::pair<std::string, uint64_t>> waiting_ ABSL_GUARDED_BY(mutex_);  // Name, life.
  bool walking_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_walks_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  uint64_t lives_ ABSL_GUARDED_BY(mutex_) = 0;
  base::Lane lane_;  // Last: its thread ends before the rest goes.
};

}  // namespace imageservice
