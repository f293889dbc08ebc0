// One directory of checksummed records, one file per object.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/files.h"

namespace base {

// Each file is a magic, a format version, the length and a CRC-32 before the bytes, replaced as a
// whole. Thread-safe for different names; calls for one name must not overlap.
class RecordStore {
 public:
  // Makes the directory (0700) when it is missing and removes temporary files of a crash.
  static absl::StatusOr<RecordStore> Open(std::string directory, Durability durability);

  // A store whose directory is there and may be in use: nothing is touched.
  static RecordStore Existing(std::string directory, Durability durability);

  // `name` is a plain file name: letters, digits, ".", "_", "-", not starting with ".".
  absl::Status Put(std::string_view name, std::string_view bytes) const {
    return Put(name, bytes, durability_);
  }
  // With another durability than the store's.
  absl::Status Put(std::string_view name, std::string_view bytes, Durability durability) const;
  // OK if there is none.
  absl::Status Delete(std::string_view name) const { return Delete(name, durability_); }
  absl::Status Delete(std::string_view name, Durability durability) const;
  // NOT_FOUND when there is none, DATA_LOSS when it is damaged, FAILED_PRECONDITION when a newer
  // version made it.
  absl::StatusOr<std::string> Get(std::string_view name) const;

  struct Loaded {
    std::map<std::string, std::string> records;  // By name.
    std::vector<std::string> damaged;            // Names moved to the directory `corrupt` inside.
  };
  // Fails when a record cannot be read for another reason than damage: what is unreadable now may
  // be whole.
  absl::StatusOr<Loaded> Load() const;
  // Moves a record that its reader could not parse to `corrupt`.
  absl::Status SetAside(std::string_view name) const;

  // What lies in `corrupt` and was not marked: the bytes behind the header, whatever they are, by
  // name. Nothing that cannot be read is in it.
  std::map<std::string, std::string> Damaged() const;
  // Marks one: Damaged does not return it any more.
  absl::Status MarkDamaged(std::string_view name) const;

  const std::string& directory() const { return directory_; }

 private:
  RecordStore(std::string directory, Durability durability)
      : directory_(std::move(directory)), durability_(durability) {}

  std::string directory_;
  Durability durability_;
};

}  // namespace base
