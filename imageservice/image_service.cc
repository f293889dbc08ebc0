#include "imageservice/image_service.h"

#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/pinned_images.h"
#include "imageservice/reference.h"

namespace imageservice {
namespace {

constexpr size_t kShortestPrefix = 3;  // Of an image id, as tools abbreviate it.

absl::StatusOr<std::string> BootId() {
  ASSIGN_OR_RETURN(std::string id, base::ReadFile("/proc/sys/kernel/random/boot_id", 64));
  while (!id.empty() && id.back() == '\n') {
    id.pop_back();
  }
  return id;
}

// Throws away what dead workers left. A folder whose lock is held belongs to a worker that outlived
// its daemon and is about to end.
absl::Status SweepStaging(const std::string& directory, Trash* trash) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, base::ListDirectory(directory));
  for (const std::string& name : names) {
    const std::string path = base::StrCat(directory, "/", name);
    absl::StatusOr<base::UniqueFd> fd = base::Open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (fd.ok() && flock(fd->get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      base::LogWarning(path, " is still locked by a pull worker: left until the next start");
      continue;
    }
    RETURN_IF_ERROR(trash->Discard(path).status());
  }
  return absl::OkStatus();
}

// The CRI's notion of the config's User: a number, or else a name; a group is cut off.
void SetUser(const std::string& user, cri::Image* image) {
  const std::string name = user.substr(0, user.find(':'));
  int64_t uid = 0;
  if (name.empty()) {
    return;
  }
  if (absl::SimpleAtoi(name, &uid) && uid >= 0) {
    image->mutable_uid()->set_value(uid);
  } else {
    image->set_username(name);
  }
}

// "repository@digest" of the repository the image was asked for by, or any, or the id.
std::string RefOf(const Image& image, const std::vector<Reference>& names) {
  for (const Reference& name : names) {
    for (const std::string& digest : image.digests) {
      if (digest.substr(0, digest.find('@')) == name.repository()) {
        return digest;
      }
    }
  }
  return image.digests.empty() ? image.id : image.digests.front();
}

absl::StatusOr<std::string> NameIn(const cri::ImageSpec& spec) {
  if (spec.image().empty()) {
    return absl::InvalidArgumentError("the request names no image");
  }
  return spec.image();
}

void AddFilesystem(const std::string& root, const WritableUsage::Sample& sample,
                   cri::FilesystemUsage* filesystem) {
  filesystem->set_timestamp(absl::ToUnixNanos(sample.measured));
  filesystem->mutable_fs_id()->set_mountpoint(root);
  filesystem->mutable_used_bytes()->set_value(sample.used.bytes);
  filesystem->mutable_inodes_used()->set_value(sample.used.inodes);
}

}  // namespace

ImageService::ImageService(ImageConfig config, const Rootfs* rootfs)
    : config_(std::move(config)),
      rootfs_(rootfs),
      gc_(std::make_unique<base::Lane>("image-gc", 2, 4096)) {}

ImageService::~ImageService() {
  puller_.reset();
  gc_.reset();
}

absl::StatusOr<std::unique_ptr<ImageService>> ImageService::Open(ImageConfig config,
                                                                 const base::Launcher* launcher,
                                                                 const Rootfs* rootfs) {
  std::unique_ptr<ImageService> service(new ImageService(std::move(config), rootfs));
  RETURN_IF_ERROR(base::Annotate(service->OpenStores(), "open the image store"));
  service->StartPuller(launcher);
  if (const absl::Status loaded = service->planner_->Load(); !loaded.ok()) {
    base::LogError("pulls will fail: ", base::ToStd(loaded.message()));
  }
  // What an earlier daemon of this boot could not finish.
  service->MakeDurableLater(service->layers_->NotDurable(), service->images_->NotDurable());
  return service;
}

absl::Status ImageService::OpenStores() {
  ASSIGN_OR_RETURN(const std::string boot_id, BootId());
  RETURN_IF_ERROR(base::MakeDirectories(config_.root, 0711));
  ASSIGN_OR_RETURN(trash_, Trash::Open(config_.root + "/trash", gc_.get()));
  const std::string staging = config_.root + "/staging";
  RETURN_IF_ERROR(base::MakeDirectories(staging, 0700));
  RETURN_IF_ERROR(SweepStaging(staging, trash_.get()));
  ASSIGN_OR_RETURN(layers_, LayerStore::Open(config_.root, boot_id, trash_.get(), &problems_));
  ASSIGN_OR_RETURN(images_, ImageStore::Open(config_.root, boot_id, layers_.get(), &problems_));
  return absl::OkStatus();
}

void ImageService::StartPuller(const base::Launcher* launcher) {
  planner_ = std::make_unique<PullPlanner>(config_.registries, launcher);
  PullEnvironment& environment = environment_;
  environment.worker_path = config_.worker_path;
  environment.worker_environment = config_.worker_environment;
  environment.staging_directory = config_.root + "/staging";
  environment.platform = HostPlatform();
  environment.limits = config_.limits;
  environment.worker_cgroup = config_.worker_cgroup;
  environment.progress_timeout = config_.progress_timeout;
  environment.launcher = launcher;
  environment.layers = layers_.get();
  environment.images = images_.get();
  environment.trash = trash_.get();
  puller_ = std::make_unique<Puller>(
      environment, config_.max_parallel_pulls,
      [this](const ImagePtr& image) { MakeDurableLater(image->chain_ids, {image->id}); });
}

cri::Image ImageService::ToCri(const Image& image) const {
  cri::Image message;
  message.set_id(image.id);
  *message.mutable_repo_tags() = {image.tags.begin(), image.tags.end()};
  *message.mutable_repo_digests() = {image.digests.begin(), image.digests.end()};
  message.set_size(image.bytes);
  SetUser(image.config.user, &message);
  message.set_pinned(IsPinned(config_.pinned_images, image.tags) ||
                     IsPinned(config_.pinned_images, image.digests) ||
                     IsPinned(config_.pinned_images, {image.id}));
  return message;
}

void ImageService::ReleaseUnused() { layers_->ReleaseUnused(); }

absl::StatusOr<cri::ListImagesResponse> ImageService::ListImages(
    const base::Context&, const cri::ListImagesRequest& request) {
  cri::ListImagesResponse response;
  const std::string& wanted = request.filter().image().image();
  if (wanted.empty()) {
    for (const ImagePtr& image : images_->List()) {
      *response.add_images() = ToCri(*image);
    }
    return response;
  }
  const absl::StatusOr<ImagePtr> image = Find(wanted);
  if (image.ok() && *image != nullptr) {
    *response.add_images() = ToCri(**image);
  }
  return response;
}

absl::StatusOr<cri::ImageStatusResponse> ImageService::ImageStatus(
    const base::Context&, const cri::ImageStatusRequest& request) {
  ASSIGN_OR_RETURN(const std::string name, NameIn(request.image()));
  ASSIGN_OR_RETURN(const ImagePtr image, Find(name));
  cri::ImageStatusResponse response;
  if (image == nullptr) {
    return response;
  }
  *response.mutable_image() = ToCri(*image);
  if (request.verbose()) {
    const absl::StatusOr<crisp::state::ImageRecord> record = images_->Read(image->id);
    if (absl::IsNotFound(record.status())) {
      return cri::ImageStatusResponse();  // Removed this moment.
    }
    RETURN_IF_ERROR(record.status());
    // An artifact's config can be anything.
    (*response.mutable_info())["info"] =
        record->has_artifact() ? base::StrCat("{\"artifactManifest\":", record->manifest(), "}")
                               : base::StrCat("{\"imageSpec\":", record->config(), "}");
  }
  return response;
}

absl::StatusOr<cri::PullImageResponse> ImageService::PullImage(
    const base::Context& ctx, const cri::PullImageRequest& request) {
  ASSIGN_OR_RETURN(const std::string name, NameIn(request.image()));
  const base::LogField field("image", name);
  const absl::StatusOr<ImagePtr> image = PullWatched(ctx, request, nullptr);
  if (absl::IsUnavailable(image.status())) {
    return base::Annotate(image.status(), "RegistryUnavailable");
  }
  RETURN_IF_ERROR(image.status());
  cri::PullImageResponse response;
  response.set_image_ref((*image)->id);
  return response;
}

absl::StatusOr<ImagePtr> ImageService::PullWatched(const base::Context& ctx,
                                                   const cri::PullImageRequest& request,
                                                   Puller::Watch watch) {
  ASSIGN_OR_RETURN(PullPlan plan, planner_->Plan(ctx, request));
  return puller_->Pull(ctx, std::move(plan), std::move(watch));
}

absl::StatusOr<cri::RemoveImageResponse> ImageService::RemoveImage(
    const base::Context& ctx, const cri::RemoveImageRequest& request) {
  ASSIGN_OR_RETURN(const std::string name, NameIn(request.image()));
  ASSIGN_OR_RETURN(const ImagePtr image, Find(name));
  if (image != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<Trash::Removal> removals, images_->Remove(image->id));
    Trash::Wait(ctx, removals);
  }
  return cri::RemoveImageResponse();
}

absl::StatusOr<cri::ImageFsInfoResponse> ImageService::ImageFsInfo(const base::Context&,
                                                                   const cri::ImageFsInfoRequest&) {
  cri::ImageFsInfoResponse response;
  AddFilesystem(config_.root, {.used = layers_->usage(), .measured = absl::Now()},
                response.add_image_filesystems());
  const WritableUsage::Sample nothing = {.used = {}, .measured = absl::Now()};
  AddFilesystem(config_.root, rootfs_ == nullptr ? nothing : rootfs_->TotalUsage(),
                response.add_container_filesystems());
  return response;
}

absl::StatusOr<ContainerImage> ImageService::Acquire(const std::string& reference,
                                                     const std::string& owner) {
  ASSIGN_OR_RETURN(const ImagePtr image, Find(reference));
  if (image != nullptr) {
    RETURN_IF_ERROR(images_->CheckLayers(image->id));
  }
  if (image == nullptr || !layers_->PinPresent("container/" + owner, image->chain_ids)) {
    return absl::NotFoundError(base::StrCat("image ", reference, " is not here"));
  }
  const absl::StatusOr<std::vector<Reference>> names =
      planner_->registries()->LocalCandidates(reference);
  ContainerImage acquired;
  acquired.id = image->id;
  acquired.ref = RefOf(*image, names.ok() ? *names : std::vector<Reference>());
  acquired.name = image->tags.empty() ? "" : image->tags.front();
  acquired.chain_ids = image->chain_ids;
  acquired.config = image->config;
  acquired.artifact_type = image->artifact_type;
  return acquired;
}

void ImageService::Pin(const std::string& owner, const std::vector<std::string>& chain_ids) {
  layers_->Pin("container/" + owner, chain_ids);
}

void ImageService::Release(const std::string& owner) { layers_->Release("container/" + owner); }

absl::StatusOr<ImagePtr> ImageService::Find(const std::string& text) const {
  if (const std::string id = ImageIdOf(text); !id.empty()) {
    return images_->FindById(id);
  }
  const absl::StatusOr<std::vector<Reference>> names =
      planner_->registries()->LocalCandidates(text);
  if (names.ok()) {
    for (const Reference& name : *names) {
      if (ImagePtr image = images_->FindByReference(name); image != nullptr) {
        return image;
      }
    }
  }
  const std::string prefix = text.substr(0, 7) == "sha256:" ? text.substr(7) : text;
  if (prefix.size() >= kShortestPrefix && IsIdPrefix(prefix)) {
    return images_->FindByPrefix(prefix);
  }
  RETURN_IF_ERROR(names.status());
  return ImagePtr();
}

absl::Status ImageService::MakeDurable(const std::vector<std::string>& chain_ids,
                                       const std::vector<std::string>& image_ids) {
  ASSIGN_OR_RETURN(const base::UniqueFd root, base::Open(config_.root, O_RDONLY | O_DIRECTORY));
  if (syncfs(root.get()) != 0) {
    return base::ErrnoStatus(errno, base::StrCat("syncfs ", config_.root));
  }
  RETURN_IF_ERROR(layers_->MarkDurable(chain_ids));
  for (const std::string& id : image_ids) {
    RETURN_IF_ERROR(images_->MarkDurable(id));
  }
  return absl::OkStatus();
}

void ImageService::MakeDurableLater(std::vector<std::string> chain_ids,
                                    std::vector<std::string> image_ids) {
  if (chain_ids.empty() && image_ids.empty()) {
    return;
  }
  const auto task = [this, chain_ids = std::move(chain_ids), image_ids = std::move(image_ids)] {
    if (const absl::Status status = MakeDurable(chain_ids, image_ids); !status.ok()) {
      base::LogError("a reboot may lose fresh images: ", base::ToStd(status.message()));
    }
  };
  if (!gc_->Post(task).ok()) {
    task();
  }
}

}  // namespace imageservice
