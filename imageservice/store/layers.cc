#include "imageservice/store/layers.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "base/files.h"
#include "base/id.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "proto/state.pb.h"

namespace imageservice {
namespace {

using crisp::state::LayerRecord;

bool IsEmptyDirectory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(path.c_str()), closedir);
  if (listing == nullptr) {
    return false;
  }
  while (const dirent* entry = readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      return false;
    }
  }
  return true;
}

std::string ObjectName(const std::string& chain_id) { return "layer " + chain_id; }

constexpr char kGone[] = "its directory is missing or was emptied";

LayerInfo FromRecord(const LayerRecord& record) {
  return {.chain_id = record.chain_id(),
          .parent = record.parent(),
          .diff_id = record.diff_id(),
          .bytes = record.bytes(),
          .inodes = record.inodes()};
}

std::string Serialized(const LayerInfo& info, const std::string& boot_id) {
  LayerRecord record;
  record.set_chain_id(info.chain_id);
  record.set_parent(info.parent);
  record.set_diff_id(info.diff_id);
  record.set_bytes(info.bytes);
  record.set_inodes(info.inodes);
  record.set_boot_id(boot_id);
  return record.SerializeAsString();
}

}  // namespace

absl::StatusOr<std::unique_ptr<LayerStore>> LayerStore::Open(const std::string& root,
                                                             const std::string& boot_id,
                                                             Trash* trash, Problems* problems) {
  const std::string directory = root + "/layers";
  const std::string records = root + "/records/layers";
  // Set-user-ID files lie in the layers: nobody else may walk in.
  RETURN_IF_ERROR(base::MakeDirectories(directory, 0700));
  ASSIGN_OR_RETURN(base::RecordStore written,
                   base::RecordStore::Open(records, base::Durability::kVolatile));
  ASSIGN_OR_RETURN(base::RecordStore synced,
                   base::RecordStore::Open(records, base::Durability::kDurable));
  std::unique_ptr<LayerStore> store(
      new LayerStore(directory, boot_id, trash, problems, std::move(written), std::move(synced)));
  RETURN_IF_ERROR(store->Load());
  RETURN_IF_ERROR(store->SweepDirectories());
  return store;
}

absl::Status LayerStore::Load() {
  ASSIGN_OR_RETURN(const base::RecordStore::Loaded loaded, synced_.Load());
  for (const std::string& name : loaded.damaged) {
    problems_->Add(ObjectName(name), "its record is damaged");
  }
  for (const auto& [name, bytes] : loaded.records) {
    RETURN_IF_ERROR(LoadOne(name, bytes));
  }
  return absl::OkStatus();
}

absl::Status LayerStore::LoadOne(const std::string& name, const std::string& bytes) {
  LayerRecord record;
  if (!record.ParseFromString(bytes) || record.chain_id() != name || !base::CheckHex64(name).ok()) {
    problems_->Add(ObjectName(name), "its record makes no sense");
    return synced_.SetAside(name);
  }
  const bool durable = record.boot_id().empty();
  if (!durable && record.boot_id() != boot_id_) {
    base::LogWarning("layer ", name, ": dropped, the last boot ended before it was durable");
    return synced_.Delete(name);
  }
  const LayerInfo info = FromRecord(record);
  if (!IsIntact(info)) {
    problems_->Add(ObjectName(name), kGone);
    return synced_.Delete(name);
  }
  base::MutexLock lock(&mutex_);
  SetPresent(info, durable, &entries_[name]);
  return absl::OkStatus();
}

void LayerStore::SetPresent(const LayerInfo& info, bool durable, Entry* entry) {
  entry->state = Entry::State::kPresent;
  entry->info = info;
  entry->generation = ++last_generation_;
  entry->durable = durable;
  entry->fetcher.clear();
}

// A directory that is there and, if something was unpacked into it, not empty.
bool LayerStore::IsIntact(const LayerInfo& info) const {
  const std::string path = PathOf(info.chain_id);
  struct stat found;
  return lstat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode) &&
         (info.inodes < 2 || !IsEmptyDirectory(path));
}

absl::Status LayerStore::SweepDirectories() {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory(directory_));
  for (const std::string& name : names) {
    if (!IsPresent(name)) {
      RETURN_IF_ERROR(trash_->Discard(base::StrCat(directory_, "/", name)).status());
    }
  }
  return absl::OkStatus();
}

bool LayerStore::IsPresent(const std::string& chain_id) const {
  base::MutexLock lock(&mutex_);
  const auto found = entries_.find(chain_id);
  return found != entries_.end() && found->second.state == Entry::State::kPresent;
}

std::string LayerStore::PathOf(const std::string& chain_id) const {
  return directory_ + "/" + chain_id;
}

std::vector<std::string> LayerStore::DropDamaged(const std::vector<std::string>& chain_ids) {
  std::vector<std::string> damaged;
  for (const std::string& chain_id : chain_ids) {
    LayerInfo info;
    uint64_t generation = 0;
    {
      base::MutexLock lock(&mutex_);
      const auto found = entries_.find(chain_id);
      if (found == entries_.end() || found->second.state != Entry::State::kPresent) {
        continue;
      }
      info = found->second.info;
      generation = found->second.generation;
    }
    if (IsIntact(info)) {
      continue;
    }
    base::MutexLock lock(&mutex_);
    const auto found = entries_.find(chain_id);
    // Not if it has been removed and pulled meanwhile.
    if (found != entries_.end() && found->second.state == Entry::State::kPresent &&
        found->second.generation == generation) {
      found->second.state = Entry::State::kRemoving;
      damaged.push_back(chain_id);
    }
  }
  for (const std::string& chain_id : damaged) {
    problems_->Add(ObjectName(chain_id), kGone);
  }
  Delete(damaged);
  return damaged;
}

DiskUsage LayerStore::usage() const {
  DiskUsage usage;
  {
    base::MutexLock lock(&mutex_);
    for (const auto& [chain_id, entry] : entries_) {  // With those being renamed away right now.
      usage += {.bytes = entry.info.bytes, .inodes = entry.info.inodes};
    }
  }
  usage += trash_->pending();  // Later: what moves from one to the other is not missed.
  return usage;
}

DiskUsage LayerStore::UsageOf(const std::vector<std::string>& chain_ids) const {
  base::MutexLock lock(&mutex_);
  DiskUsage usage;
  for (const std::string& chain_id : chain_ids) {
    const auto found = entries_.find(chain_id);
    if (found != entries_.end() && found->second.state == Entry::State::kPresent) {
      usage += {.bytes = found->second.info.bytes, .inodes = found->second.info.inodes};
    }
  }
  return usage;
}

// The new pins come before the old ones go, so that what both have in common stays.
std::vector<std::string> LayerStore::Repin(const std::string& owner,
                                           const std::vector<std::string>& chain_ids) {
  for (const std::string& chain_id : chain_ids) {
    ++entries_[chain_id].pins;
  }
  std::vector<std::string> doomed = Unpin(owner);
  owners_[owner] = chain_ids;
  return doomed;
}

void LayerStore::Pin(const std::string& owner, const std::vector<std::string>& chain_ids) {
  std::vector<std::string> doomed;
  {
    base::MutexLock lock(&mutex_);
    doomed = Repin(owner, chain_ids);
  }
  Delete(doomed);
}

bool LayerStore::PinPresent(const std::string& owner, const std::vector<std::string>& chain_ids) {
  std::vector<std::string> doomed;
  {
    base::MutexLock lock(&mutex_);
    for (const std::string& chain_id : chain_ids) {
      const auto found = entries_.find(chain_id);
      if (found == entries_.end() || found->second.state != Entry::State::kPresent) {
        return false;
      }
    }
    doomed = Repin(owner, chain_ids);
  }
  Delete(doomed);
  return true;
}

std::vector<std::string> LayerStore::Unpin(const std::string& owner) {
  std::vector<std::string> doomed;
  const auto found = owners_.find(owner);
  if (found == owners_.end()) {
    return doomed;
  }
  for (const std::string& chain_id : found->second) {
    const auto at = entries_.find(chain_id);
    Entry& entry = at->second;
    --entry.pins;
    if (entry.state == Entry::State::kFetching && entry.fetcher == owner) {
      entry.state = Entry::State::kAbsent;
      entry.fetcher.clear();
    }
    if (entry.pins > 0) {
      continue;
    }
    if (entry.state == Entry::State::kPresent) {
      entry.state = Entry::State::kRemoving;
      doomed.push_back(chain_id);
    } else if (entry.state == Entry::State::kAbsent) {
      entries_.erase(at);
    }
  }
  owners_.erase(found);
  Changed();
  return doomed;
}

std::vector<Trash::Removal> LayerStore::Release(const std::string& owner) {
  std::vector<std::string> doomed;
  {
    base::MutexLock lock(&mutex_);
    doomed = Unpin(owner);
  }
  return Delete(doomed);
}

std::vector<Trash::Removal> LayerStore::ReleaseUnused() {
  std::vector<std::string> doomed;
  {
    base::MutexLock lock(&mutex_);
    for (auto& [chain_id, entry] : entries_) {
      if (entry.pins == 0 && entry.state == Entry::State::kPresent) {
        entry.state = Entry::State::kRemoving;
        doomed.push_back(chain_id);
      }
    }
  }
  return Delete(doomed);
}

std::vector<Trash::Removal> LayerStore::Delete(const std::vector<std::string>& doomed) {
  std::vector<Trash::Removal> removals;
  for (const std::string& chain_id : doomed) {
    if (Trash::Removal removal = DeleteOne(chain_id); removal != nullptr) {
      removals.push_back(std::move(removal));
    }
  }
  return removals;
}

// The record goes first and durably: a record never speaks of files that are being unlinked.
Trash::Removal LayerStore::DeleteOne(const std::string& chain_id) {
  DiskUsage counted;
  {
    base::MutexLock lock(&mutex_);
    const Entry& entry = entries_.at(chain_id);
    while (entry.rewriting) {
      settled_.Wait(&mutex_);
    }
    counted = {.bytes = entry.info.bytes, .inodes = entry.info.inodes};
  }
  absl::StatusOr<Trash::Removal> removal = Trash::Removal();
  const absl::Status deleted = synced_.Delete(chain_id);
  if (deleted.ok()) {
    removal = trash_->Discard(PathOf(chain_id), counted);
  }
  base::MutexLock lock(&mutex_);
  const auto found = entries_.find(chain_id);
  if (!deleted.ok()) {
    base::LogError("layer ", chain_id, ": ", base::ToStd(deleted.message()));
    found->second.state = Entry::State::kPresent;  // The next start tries again.
  } else if (found->second.pins == 0) {
    entries_.erase(found);
  } else {
    found->second = Entry{.pins = found->second.pins};
  }
  Changed();
  settled_.NotifyAll();
  if (!removal.ok()) {
    base::LogError("layer ", chain_id, ": ", base::ToStd(removal.status().message()));
    return nullptr;
  }
  return *removal;
}

LayerStore::Claim LayerStore::ClaimFor(const std::string& pull, const std::string& chain_id) {
  DropDamaged({chain_id});
  base::MutexLock lock(&mutex_);
  std::vector<std::string>& pinned = owners_[pull];
  if (std::find(pinned.begin(), pinned.end(), chain_id) == pinned.end()) {
    pinned.push_back(chain_id);
    ++entries_[chain_id].pins;
  }
  // The pin keeps the entry, so the reference stays good over the wait.
  Entry& entry = entries_.at(chain_id);
  while (entry.state == Entry::State::kRemoving) {
    settled_.Wait(&mutex_);
  }
  if (entry.state == Entry::State::kPresent) {
    return Claim::kPresent;
  }
  if (entry.state == Entry::State::kAbsent) {
    entry.state = Entry::State::kFetching;
    entry.fetcher = pull;
  }
  if (entry.fetcher == pull) {
    return Claim::kMine;
  }
  if (const auto offer = offers_.find(entry.fetcher); offer != offers_.end()) {
    offer->second->Set();
  }
  return Claim::kOther;
}

void LayerStore::OfferClaims(const std::string& pull, Event* wanted) {
  base::MutexLock lock(&mutex_);
  offers_[pull] = wanted;
  for (const auto& [chain_id, entry] : entries_) {
    if (entry.state == Entry::State::kFetching && entry.fetcher == pull && entry.pins > 1) {
      wanted->Set();
    }
  }
}

void LayerStore::WithdrawOffer(const std::string& pull) {
  base::MutexLock lock(&mutex_);
  offers_.erase(pull);
}

void LayerStore::AddListener(Event* wake) {
  base::MutexLock lock(&mutex_);
  listeners_.insert(wake);
}

void LayerStore::RemoveListener(Event* wake) {
  base::MutexLock lock(&mutex_);
  listeners_.erase(wake);
}

void LayerStore::Changed() {
  for (Event* listener : listeners_) {
    listener->Set();  // Writes to an eventfd, which cannot block.
  }
}

absl::Status LayerStore::MoveIntoPlace(const std::string& from, const std::string& chain_id) {
  const std::string to = PathOf(chain_id);
  for (int attempt = 0;; ++attempt) {
    if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
      return absl::OkStatus();
    }
    if (errno != EEXIST || attempt > 0) {
      return base::ErrnoStatus(errno, base::StrCat("move layer ", chain_id, " into place"));
    }
    // Left over by a deletion that failed: it has no record.
    RETURN_IF_ERROR(trash_->Discard(to).status());
  }
}

absl::Status LayerStore::Commit(const std::string& pull, const LayerInfo& info,
                                const std::string& directory) {
  {
    base::MutexLock lock(&mutex_);
    const auto found = entries_.find(info.chain_id);
    if (found == entries_.end() || found->second.state != Entry::State::kFetching ||
        found->second.fetcher != pull) {
      return absl::InternalError(base::StrCat("layer ", info.chain_id, " is not claimed"));
    }
  }
  RETURN_IF_ERROR(MoveIntoPlace(directory, info.chain_id));
  const absl::Status recorded = written_.Put(info.chain_id, Serialized(info, boot_id_));
  if (!recorded.ok()) {
    RETURN_IF_ERROR(trash_->Discard(PathOf(info.chain_id)).status());
    return recorded;
  }
  problems_->Resolve(ObjectName(info.chain_id));
  base::MutexLock lock(&mutex_);
  SetPresent(info, /*durable=*/false, &entries_.at(info.chain_id));
  Changed();
  return absl::OkStatus();
}

bool LayerStore::BeginRewriting(const std::string& chain_id, LayerInfo* info) {
  base::MutexLock lock(&mutex_);
  for (;;) {
    const auto found = entries_.find(chain_id);
    if (found == entries_.end() || found->second.state != Entry::State::kPresent ||
        found->second.durable) {
      return false;
    }
    if (!found->second.rewriting) {
      found->second.rewriting = true;
      *info = found->second.info;
      return true;
    }
    settled_.Wait(&mutex_);
  }
}

absl::Status LayerStore::MarkDurable(const std::vector<std::string>& chain_ids) {
  for (const std::string& chain_id : chain_ids) {
    LayerInfo info;
    if (!BeginRewriting(chain_id, &info)) {
      continue;
    }
    const absl::Status status = synced_.Put(chain_id, Serialized(info, ""));
    base::MutexLock lock(&mutex_);
    Entry& entry = entries_.at(chain_id);  // A deletion waits for us.
    entry.rewriting = false;
    entry.durable = status.ok();
    settled_.NotifyAll();
    RETURN_IF_ERROR(base::Annotate(status, base::StrCat("layer ", chain_id)));
  }
  return absl::OkStatus();
}

bool LayerStore::IsDurable(const std::string& chain_id) const {
  base::MutexLock lock(&mutex_);
  const auto found = entries_.find(chain_id);
  return found != entries_.end() && found->second.durable;
}

std::vector<std::string> LayerStore::NotDurable() const {
  base::MutexLock lock(&mutex_);
  std::vector<std::string> chain_ids;
  for (const auto& [chain_id, entry] : entries_) {
    if (entry.state == Entry::State::kPresent && !entry.durable) {
      chain_ids.push_back(chain_id);
    }
  }
  return chain_ids;
}

}  // namespace imageservice
