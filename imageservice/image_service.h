// The image verbs of the CRI (runtime.v1.ImageService).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/lane.h"
#include "base/launcher.h"
#include "imageservice/image.h"
#include "imageservice/pull_plan.h"
#include "imageservice/puller.h"
#include "imageservice/rootfs.h"
#include "imageservice/store/images.h"
#include "imageservice/store/layers.h"
#include "imageservice/store/problems.h"
#include "imageservice/store/trash.h"
#include "imageservice/worker/archive_protocol.h"
#include "proto/cri.h"
#include "proto/crisp.pb.h"

namespace imageservice {

// What the image service needs of the daemon's configuration.
struct ImageConfig {
  std::string root = "/var/lib/crisp";  // Everything that lasts is below it, on one file system.
  std::string run_root = "/run/crisp";  // Mounts of containers (rootfs.h).
  std::string worker_path;              // crisp-pull.
  std::vector<std::string> worker_environment;  // "HTTPS_PROXY=…" and its like.
  RegistrySettings registries;                  // Which registries to ask, and how.
  std::vector<std::string> pinned_images;       // Patterns (pinned_images.h).
  int max_parallel_pulls = 16;
  worker::Limits limits;                                       // Of one pull.
  std::string worker_cgroup;                                   // As PullEnvironment's; it exists.
  absl::Duration progress_timeout = absl::InfiniteDuration();  // Likewise.
};

// Thread-safe. Lists and ImageStatus answer from memory; PullImage and RemoveImage block their
// thread.
class ImageService : public ImageSource {
 public:
  // Loads and repairs what is below the root, and ends what an earlier daemon left half done. Pulls
  // and deletions run on lanes of the service's own. `launcher` must outlive it, and `rootfs` too,
  // if there is one: it says what containers write. Only what makes the store unusable as a whole
  // is an error; damaged images are in problems().
  static absl::StatusOr<std::unique_ptr<ImageService>> Open(ImageConfig config,
                                                            const base::Launcher* launcher,
                                                            const Rootfs* rootfs = nullptr);
  // Cancels the pulls and finishes deletions.
  ~ImageService() override;

  // Deletes layers that neither an image nor a pinned owner needs. To be called once, after every
  // container known from a record has been pinned.
  void ReleaseUnused();

  // An unknown image in the filter is an empty list.
  absl::StatusOr<cri::ListImagesResponse> ListImages(const base::Context& ctx,
                                                     const cri::ListImagesRequest& request);
  // An unknown image is an answer without one. Verbose adds "info": the config as JSON.
  absl::StatusOr<cri::ImageStatusResponse> ImageStatus(const base::Context& ctx,
                                                       const cri::ImageStatusRequest& request);
  // Asks the registry also when the image is here. The message of an UNAVAILABLE error begins with
  // "RegistryUnavailable", as the kubelet wants to know it.
  absl::StatusOr<cri::PullImageResponse> PullImage(const base::Context& ctx,
                                                   const cri::PullImageRequest& request);
  // The same with progress, for the command line (proto/crisp.proto); as the next two these call
  // `emit` from several threads, one at a time, until they return.
  using Emit = std::function<void(const crisp::v1::Event&)>;
  absl::Status Pull(const base::Context& ctx, const crisp::v1::PullRequest& request,
                    const Emit& emit);
  // Loads the images of an archive. What fails as a whole is an error, what fails for one image
  // stands in its event.
  absl::Status Load(const base::Context& ctx, const crisp::v1::LoadRequest& request,
                    const Emit& emit);
  // Writes images into an archive; their layers stay meanwhile. NOT_FOUND for an image that is not
  // here.
  absl::Status Save(const base::Context& ctx, const crisp::v1::SaveRequest& request,
                    const Emit& emit);
  // Removes the image with all its names, whichever names it. OK if it is not here. Layers that
  // containers use stay until these go.
  absl::StatusOr<cri::RemoveImageResponse> RemoveImage(const base::Context& ctx,
                                                       const cri::RemoveImageRequest& request);
  // Layers by the numbers counted at the pulls, containers by Rootfs::TotalUsage; what is still
  // being unlinked counts. Both live on one file system. Walks no tree.
  absl::StatusOr<cri::ImageFsInfoResponse> ImageFsInfo(const base::Context& ctx,
                                                       const cri::ImageFsInfoRequest& request);

  absl::StatusOr<ContainerImage> Acquire(const std::string& reference,
                                         const std::string& owner) override;
  void Pin(const std::string& owner, const std::vector<std::string>& chain_ids) override;
  void Release(const std::string& owner) override;

  // The pulls that are running, for `crisp status`.
  std::vector<PullProgress> Progress() const { return puller_->Progress(); }
  // What was found damaged and no pull has repaired since, in words.
  std::vector<std::string> problems() const { return problems_.List(); }

 private:
  ImageService(ImageConfig config, const Rootfs* rootfs);
  absl::Status OpenStores();
  void StartPuller(const base::Launcher* launcher);
  // The image that a user's text means; null when it is not here.
  absl::StatusOr<ImagePtr> Find(const std::string& text) const;
  absl::StatusOr<ImagePtr> PullWatched(const base::Context& ctx,
                                       const cri::PullImageRequest& request, Puller::Watch watch);
  crisp::v1::Image LoadOne(const base::Context& ctx, const crisp::v1::LoadRequest& request,
                           const worker::ArchivedImage& archived, const Emit& emit);
  absl::StatusOr<std::vector<ImagePtr>> FindToSave(const crisp::v1::SaveRequest& request) const;
  absl::Status MakeDurable(const std::vector<std::string>& chain_ids,
                           const std::vector<std::string>& image_ids);
  void MakeDurableLater(std::vector<std::string> chain_ids, std::vector<std::string> image_ids);

  cri::Image ToCri(const Image& image) const;

  const ImageConfig config_;
  const Rootfs* const rootfs_;  // Null: nobody counts containers.
  Problems problems_;
  // Made in this order; the lane's tasks use the stores, and pulls use all of it.
  std::unique_ptr<base::Lane> gc_;
  std::unique_ptr<Trash> trash_;
  std::unique_ptr<LayerStore> layers_;
  std::unique_ptr<ImageStore> images_;
  std::unique_ptr<PullPlanner> planner_;
  PullEnvironment environment_;
  std::unique_ptr<Puller> puller_;
};

}  // namespace imageservice
