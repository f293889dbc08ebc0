// What is remembered of a layer while it is unpacked: what is done at its end, and what is left to
// the daemon.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageservice/worker/protocol.h"
#include "imageservice/worker/tar_header.h"

namespace imageservice::worker {

// Notes by path, without symlinks. Their memory is limited: RESOURCE_EXHAUSTED beyond. One thread.
class LayerNotes {
 public:
  // The directory `path` has an entry, the last one of which says its metadata.
  absl::Status AddDirectory(const std::string& path, const FileMetadata& metadata);
  // It exists only because something is in it, until an entry of its own comes.
  absl::Status AddImplicit(const std::string& path);
  // It hides what lower layers have in it.
  absl::Status AddOpaque(const std::string& path);
  // Something at the operation's path that only the daemon can make: there is nothing there yet.
  absl::Status Defer(DeferredOperation operation);

  bool IsDeferred(const std::string& path) const { return deferred_.contains(path); }
  // Drops what was deferred at `path`, which something else replaces; whether there was any.
  bool DropDeferred(const std::string& path) { return deferred_.erase(path) != 0; }
  // Drops everything about `path` and what is below it, which is about to be removed.
  void Forget(const std::string& path);

  const std::map<std::string, FileMetadata>& directories() const { return directories_; }
  size_t implicit_directories() const { return implicit_.size(); }
  uint64_t nodes() const;

  // What the daemon has to do, in the order in which it has to; within the limits of DeferredTotal.
  absl::StatusOr<std::vector<DeferredOperation>> Operations() const;

 private:
  absl::Status Track(size_t bytes);

  // In order of arrival: a link may be to a node or to another such link.
  struct Deferred {
    size_t order;
    DeferredOperation operation;
  };

  size_t tracked_bytes_ = 0;  // Of all notes ever made.
  std::map<std::string, FileMetadata> directories_;
  std::set<std::string> implicit_;
  std::set<std::string> opaque_;
  std::map<std::string, Deferred> deferred_;
  size_t deferred_seen_ = 0;
};

}  // namespace imageservice::worker
