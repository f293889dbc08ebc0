// The unpacked layers, each a directory `<root>/layers/<chain id>` and a record, and who needs
// them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/record_store.h"
#include "imageservice/event.h"
#include "imageservice/store/disk_usage.h"
#include "imageservice/store/problems.h"
#include "imageservice/store/trash.h"

namespace imageservice {

// What is known of a layer. All ids are 64 hexadecimal digits.
struct LayerInfo {
  std::string chain_id;
  std::string parent;  // Chain ID of the layer below; empty for the lowest.
  std::string diff_id;
  uint64_t bytes = 0;
  uint64_t inodes = 0;
};

// Thread-safe; the mutex is never held across a system call that can be slow. A layer is deleted
// when its last pin goes. Pins live in memory only: their owners (images, containers) have the
// records.
class LayerStore {
 public:
  // Loads the records. Dropped before anything is visible: layers that another boot left without
  // having been made durable, and records whose directory is missing or was emptied. Directories
  // without a record go to the trash. What was found damaged is described in `problems`, which with
  // `trash` must outlive the store.
  static absl::StatusOr<std::unique_ptr<LayerStore>> Open(const std::string& root,
                                                          const std::string& boot_id, Trash* trash,
                                                          Problems* problems);

  bool IsPresent(const std::string& chain_id) const;
  std::string PathOf(const std::string& chain_id) const;

  // Looks at the directories of those of `chain_ids` that are present, and drops each whose
  // directory is missing or was emptied: it is absent then, for the next pull to fetch, and its
  // pins stay. Returns what was dropped. A glance, not a check of the content.
  std::vector<std::string> DropDamaged(const std::vector<std::string>& chain_ids);

  // Of all layers together, by the numbers counted when they were unpacked, with those that are
  // still being unlinked.
  DiskUsage usage() const;
  DiskUsage UsageOf(const std::vector<std::string>& chain_ids) const;

  // Pins layers for `owner`, instead of what it had pinned before. Layers that are not here are
  // pinned too: they are kept should they come.
  void Pin(const std::string& owner, const std::vector<std::string>& chain_ids);
  // The same, but only when all of them are present; returns whether they were.
  bool PinPresent(const std::string& owner, const std::vector<std::string>& chain_ids);
  // Ends the owner's pins and, for a pull, its claims. Layers nobody needs any more are deleted;
  // the result is what is still being unlinked. Does nothing for an unknown owner.
  std::vector<Trash::Removal> Release(const std::string& owner);
  // Deletes every layer without a pin: to be called once all owners known from records have pinned.
  std::vector<Trash::Removal> ReleaseUnused();

  enum class Claim {
    kPresent,  // It is here.
    kOther,    // Another pull fetches it; ask again when the listener's event is set.
    kMine,     // The asking pull fetches it (also when it asked before).
  };
  // Pins the layer for `pull` and tells who fetches it; one that turns out damaged is fetched anew.
  // A claim that is the pull's own ends with Commit or Release; then one of those who wait gets it.
  // Waits while the layer is being deleted.
  Claim ClaimFor(const std::string& pull, const std::string& chain_id);
  // While `pull` stands still: `wanted` is set once another pull wants a layer that `pull` has
  // claimed, now or until WithdrawOffer.
  void OfferClaims(const std::string& pull, Event* wanted);
  void WithdrawOffer(const std::string& pull);
  // `wake` is set whenever a layer came or a claim became free, until RemoveListener.
  void AddListener(Event* wake);
  void RemoveListener(Event* wake);

  // Makes the finished tree at `directory` the layer which `pull` has claimed: moves it into place
  // and writes the record. After an error the tree may be at either place or in the trash; the
  // claim stays.
  absl::Status Commit(const std::string& pull, const LayerInfo& info, const std::string& directory);

  // Marks layers as durable on disk, after a syncfs(2) that began when they were present. Those
  // that are gone are skipped.
  absl::Status MarkDurable(const std::vector<std::string>& chain_ids);
  bool IsDurable(const std::string& chain_id) const;
  // Layers of this boot still waiting for a syncfs.
  std::vector<std::string> NotDurable() const;

 private:
  struct Entry {
    enum class State { kAbsent, kFetching, kPresent, kRemoving };
    State state = State::kAbsent;
    LayerInfo info;
    uint64_t generation = 0;  // Which of the times that it came.
    bool durable = false;
    bool rewriting = false;  // Its record is being replaced right now.
    int pins = 0;
    std::string fetcher;
  };

  LayerStore(std::string directory, std::string boot_id, Trash* trash, Problems* problems,
             base::RecordStore written, base::RecordStore synced)
      : directory_(std::move(directory)),
        boot_id_(std::move(boot_id)),
        trash_(trash),
        problems_(problems),
        written_(std::move(written)),
        synced_(std::move(synced)) {}

  absl::Status Load();
  absl::Status LoadOne(const std::string& name, const std::string& bytes);
  absl::Status SweepDirectories();
  bool IsIntact(const LayerInfo& info) const;
  std::vector<std::string> Unpin(const std::string& owner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<std::string> Repin(const std::string& owner,
                                 const std::vector<std::string>& chain_ids)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetPresent(const LayerInfo& info, bool durable, Entry* entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool BeginRewriting(const std::string& chain_id, LayerInfo* info);
  void Changed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Trash::Removal> Delete(const std::vector<std::string>& doomed);
  Trash::Removal DeleteOne(const std::string& chain_id);
  absl::Status MoveIntoPlace(const std::string& from, const std::string& chain_id);

  const std::string directory_;
  const std::string boot_id_;
  Trash* const trash_;
  Problems* const problems_;
  const base::RecordStore written_;  // The same directory twice: without fsync and with it.
  const base::RecordStore synced_;

  mutable base::Mutex mutex_;
  base::CondVar settled_;  // A deletion or a rewriting has ended.
  uint64_t last_generation_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::vector<std::string>> owners_ ABSL_GUARDED_BY(mutex_);
  std::set<Event*> listeners_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Event*> offers_ ABSL_GUARDED_BY(mutex_);  // By the pull that stands still.
};

}  // namespace imageservice
