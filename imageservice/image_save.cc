// ImageService: writing images into archives.
#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/id.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/archive_worker.h"
#include "imageservice/image_service.h"
#include "imageservice/resolved_image.h"

namespace imageservice {
namespace {

// Holds layers for as long as they are read.
class PinnedLayers {
 public:
  PinnedLayers(LayerStore* layers, const std::vector<std::string>& chain_ids)
      : layers_(layers),
        owner_(base::StrCat("save/", base::RandomHex64().substr(0, 16))),
        present_(layers->PinPresent(owner_, chain_ids)) {}
  ~PinnedLayers() { layers_->Release(owner_); }
  PinnedLayers(const PinnedLayers&) = delete;
  PinnedLayers& operator=(const PinnedLayers&) = delete;

  bool present() const { return present_; }

 private:
  LayerStore* const layers_;
  const std::string owner_;
  const bool present_;
};

worker::ArchiveFormat FormatOf(crisp::v1::SaveRequest::Format format) {
  switch (format) {
    case crisp::v1::SaveRequest::DOCKER_ARCHIVE:
      return worker::ArchiveFormat::kDockerArchive;
    case crisp::v1::SaveRequest::OCI_LAYOUT:
      return worker::ArchiveFormat::kOciLayout;
    default:
      return worker::ArchiveFormat::kOciArchive;
  }
}

worker::ArchiveCompression CompressionOf(crisp::v1::SaveRequest::Compression compression) {
  switch (compression) {
    case crisp::v1::SaveRequest::GZIP:
      return worker::ArchiveCompression::kGzip;
    case crisp::v1::SaveRequest::ZSTD:
      return worker::ArchiveCompression::kZstd;
    default:
      return worker::ArchiveCompression::kNone;
  }
}

absl::Status CheckRequest(const crisp::v1::SaveRequest& request) {
  if (!request.path().starts_with('/')) {
    return absl::InvalidArgumentError("the path of the archive is not absolute");
  }
  if (request.images().empty()) {
    return absl::InvalidArgumentError("the request names no image");
  }
  if (request.format() == crisp::v1::SaveRequest::DOCKER_ARCHIVE &&
      request.compression() != crisp::v1::SaveRequest::NONE) {
    return absl::InvalidArgumentError("layers in a docker-archive are not compressed");
  }
  return absl::OkStatus();
}

}  // namespace

// Each image once, however often it is named.
absl::StatusOr<std::vector<ImagePtr>> ImageService::FindToSave(
    const crisp::v1::SaveRequest& request) const {
  std::vector<ImagePtr> images;
  for (const std::string& name : request.images()) {
    ASSIGN_OR_RETURN(const ImagePtr image, Find(name));
    if (image == nullptr) {
      return absl::NotFoundError(base::StrCat("image ", name, " is not here"));
    }
    if (!image->artifact_type.empty() &&
        request.format() == crisp::v1::SaveRequest::DOCKER_ARCHIVE) {
      return absl::InvalidArgumentError(
          base::StrCat(name, " is an OCI artifact: only an OCI archive or layout can hold it"));
    }
    RETURN_IF_ERROR(images_->CheckLayers(image->id));
    const auto is_same = [&](const ImagePtr& other) { return other->id == image->id; };
    if (std::ranges::none_of(images, is_same)) {
      images.push_back(image);
    }
  }
  if (images.size() > worker::kMaxSavedImages) {
    return absl::InvalidArgumentError(base::StrCat("more than ", worker::kMaxSavedImages,
                                                   " images for one archive: save them into "
                                                   "several"));
  }
  return images;
}

absl::Status ImageService::Save(const base::Context& ctx, const crisp::v1::SaveRequest& request,
                                const Emit& emit) {
  RETURN_IF_ERROR(CheckRequest(request));
  ASSIGN_OR_RETURN(const std::vector<ImagePtr> images, FindToSave(request));
  std::set<std::string> distinct;
  for (const ImagePtr& image : images) {
    distinct.insert(image->chain_ids.begin(), image->chain_ids.end());
  }
  const std::vector<std::string> chain_ids(distinct.begin(), distinct.end());
  const PinnedLayers pins(layers_.get(), chain_ids);
  if (!pins.present()) {
    return absl::NotFoundError("an image was removed meanwhile");
  }
  worker::SaveRequest save = {.path = request.path(),
                              .format = FormatOf(request.format()),
                              .compression = CompressionOf(request.compression())};
  for (const ImagePtr& image : images) {
    ASSIGN_OR_RETURN(crisp::state::ImageRecord record, images_->Read(image->id));
    worker::ImageToSave wanted = {.config = std::move(*record.mutable_config()),
                                  .names = image->tags};
    if (record.has_artifact()) {
      wanted.manifest = std::move(*record.mutable_manifest());
    }
    for (const std::string& chain_id : image->chain_ids) {
      wanted.directories.push_back(layers_->PathOf(chain_id));
    }
    save.images.push_back(std::move(wanted));
  }
  const uint64_t total = layers_->UsageOf(chain_ids).bytes;
  ASSIGN_OR_RETURN(const worker::ArchiveReply reply,
                   AskArchiveWorker(ctx, environment_, save, [&](const worker::Progress& progress) {
                     crisp::v1::Event event;
                     event.mutable_progress()->set_bytes_done(progress.bytes_done);
                     event.mutable_progress()->set_bytes_total(total);
                     emit(event);
                   }));
  const auto* saved = std::get_if<worker::SavedArchive>(&reply);
  if (saved == nullptr || saved->image_ids.size() != images.size()) {
    return BrokenProtocol("not the images asked for");
  }
  for (size_t i = 0; i < images.size(); ++i) {
    crisp::v1::Event event;
    event.mutable_image()->set_id(images[i]->id);
    event.mutable_image()->set_archived_id(saved->image_ids[i]);
    *event.mutable_image()->mutable_names() = {images[i]->tags.begin(), images[i]->tags.end()};
    emit(event);
  }
  base::LogInfo("saved ", images.size(), " images into ", request.path());
  return absl::OkStatus();
}

}  // namespace imageservice
