// The images that are here: a record each, and their names.
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
#include "imageservice/image.h"
#include "imageservice/reference.h"
#include "imageservice/store/layers.h"
#include "imageservice/store/problems.h"
#include "proto/state.pb.h"

namespace imageservice {

// What is kept of an image in memory. Immutable: a change makes a new one.
struct Image {
  std::string id;
  std::vector<std::string> tags;       // "registry/repository:tag", oldest first.
  std::vector<std::string> digests;    // "registry/repository@sha256:…", oldest first.
  std::vector<std::string> chain_ids;  // Bottom layer first.
  uint64_t bytes = 0;                  // Disk space of its layers and documents; never 0.
  int64_t pulled_at = 0;               // Nanoseconds since the epoch.
  bool durable = false;
  ImageProcessConfig config;
  std::string artifact_type;  // Not empty: an OCI artifact.
};
using ImagePtr = std::shared_ptr<const Image>;

// The config as it stands in a record.
void SetProcess(const ImageProcessConfig& config, crisp::state::ImageProcess* process);

// Thread-safe. Reads see memory only; changes take turns, so that no mutex is held while one
// writes.
class ImageStore {
 public:
  // Loads the records and pins their layers in `layers`, which must outlive the store. Images that
  // another boot left before they were durable are dropped; an image whose record is damaged or
  // whose layers are gone is set aside, described in `problems`, and does not hinder the others.
  // `problems` must outlive the store too.
  static absl::StatusOr<std::unique_ptr<ImageStore>> Open(const std::string& root,
                                                          const std::string& boot_id,
                                                          LayerStore* layers, Problems* problems);

  // All images, by id.
  std::vector<ImagePtr> List() const;
  // Null when there is none.
  ImagePtr FindById(const std::string& id) const;
  ImagePtr FindByReference(const Reference& reference) const;
  // The image whose id begins with `prefix`, null if none does; INVALID_ARGUMENT for several.
  absl::StatusOr<ImagePtr> FindByPrefix(const std::string& prefix) const;
  // The record with its documents, from disk.
  absl::StatusOr<crisp::state::ImageRecord> Read(const std::string& id) const;

  // Adds an image whose layers are all present, or adds the names and documents of `record` to the
  // image of the same id. Its tags are taken from whatever image had them. `boot_id` and
  // `pulled_at` are filled in here. The pull is committed when this returns OK. FAILED_PRECONDITION
  // when an image and an artifact have the same id: a document can be made to be a config and a
  // manifest, with a tree of its own as each.
  absl::StatusOr<ImagePtr> Commit(crisp::state::ImageRecord record);

  // Deletes an image with all its names and returns what is still being unlinked. OK if there is
  // none.
  absl::StatusOr<std::vector<Trash::Removal>> Remove(const std::string& id);

  // Looks at the layers of an image (LayerStore::DropDamaged). If one is damaged, every image that
  // has it is set aside with its names, so that its next pull repairs it, and the result is
  // NOT_FOUND, naming the layer.
  absl::Status CheckLayers(const std::string& id);

  // Marks an image as durable, provided its layers are. Does nothing if it is gone.
  absl::Status MarkDurable(const std::string& id);
  // Images of this boot still waiting for a syncfs.
  std::vector<std::string> NotDurable() const;

 private:
  // The right to change records and memory: one holder at a time.
  class Turn {
   public:
    explicit Turn(ImageStore* store);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    ImageStore* const store_;
  };

  ImageStore(std::string boot_id, LayerStore* layers, Problems* problems, base::RecordStore written,
             base::RecordStore synced)
      : boot_id_(std::move(boot_id)),
        layers_(layers),
        problems_(problems),
        written_(std::move(written)),
        synced_(std::move(synced)) {}

  absl::Status Load();
  absl::StatusOr<bool> LoadOne(const std::string& name, const std::string& bytes);
  void DropIncomplete();
  void SettleTags();
  absl::Status Write(const crisp::state::ImageRecord& record) const;
  absl::Status RewriteRobbed();
  absl::Status RewriteTags(const std::string& id);
  void Publish(const ImagePtr& image);

  const std::string boot_id_;
  LayerStore* const layers_;
  Problems* const problems_;
  const base::RecordStore written_;  // The same directory twice: without fsync and with it.
  const base::RecordStore synced_;

  mutable base::Mutex mutex_;
  base::CondVar turn_free_;
  bool turn_taken_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, ImagePtr> images_ ABSL_GUARDED_BY(mutex_);
  // Images that lost a tag in memory but not yet in their record: were it taken from the record
  // before the new owner is durable, power loss could leave the tag to nobody.
  std::set<std::string> robbed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace imageservice
