#include "imageservice/store/images.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice {
namespace {

using crisp::state::ImageRecord;

std::string OwnerOf(const std::string& id) { return "image/" + id; }
std::string ObjectName(const std::string& id) { return "image " + id; }

// How messages call it.
std::string NameOf(const Image& image) { return image.tags.empty() ? image.id : image.tags[0]; }

template <typename Repeated>
std::vector<std::string> Strings(const Repeated& field) {
  return {field.begin(), field.end()};
}

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

ImagePtr FromRecord(const ImageRecord& record) {
  auto image = std::make_shared<Image>();
  image->id = record.id();
  image->tags = Strings(record.tags());
  image->digests = Strings(record.digests());
  image->chain_ids = Strings(record.chain_ids());
  image->bytes = record.bytes();
  image->pulled_at = record.pulled_at();
  image->durable = record.boot_id().empty();
  const crisp::state::ImageProcess& process = record.process();
  image->config.entrypoint = Strings(process.entrypoint());
  image->config.cmd = Strings(process.cmd());
  image->config.env = Strings(process.env());
  image->config.working_dir = process.working_dir();
  image->config.user = process.user();
  image->config.stop_signal = process.stop_signal();
  image->config.volumes = Strings(process.volumes());
  image->artifact_type = record.artifact().type();
  image->config.labels = {process.labels().begin(), process.labels().end()};
  return image;
}

// `names` first, then what of `more` is not among them.
void AddMissing(const std::vector<std::string>& names,
                google::protobuf::RepeatedPtrField<std::string>* more) {
  std::vector<std::string> merged = names;
  for (const std::string& name : *more) {
    if (!Contains(merged, name)) {
      merged.push_back(name);
    }
  }
  more->Clear();
  for (std::string& name : merged) {
    more->Add(std::move(name));
  }
}

void AddLayerProblem(const Image& image, Problems* problems) {
  problems->Add(ObjectName(image.id), base::StrCat("a layer of ", NameOf(image),
                                                   " is damaged; the next pull repairs it"));
}

ImagePtr Without(const ImagePtr& image, const std::vector<std::string>& tags) {
  auto changed = std::make_shared<Image>(*image);
  std::erase_if(changed->tags, [&](const std::string& tag) { return Contains(tags, tag); });
  return changed->tags.size() == image->tags.size() ? image : changed;
}

}  // namespace

void SetProcess(const ImageProcessConfig& config, crisp::state::ImageProcess* process) {
  *process->mutable_entrypoint() = {config.entrypoint.begin(), config.entrypoint.end()};
  *process->mutable_cmd() = {config.cmd.begin(), config.cmd.end()};
  *process->mutable_env() = {config.env.begin(), config.env.end()};
  process->set_working_dir(config.working_dir);
  process->set_user(config.user);
  process->set_stop_signal(config.stop_signal);
  *process->mutable_volumes() = {config.volumes.begin(), config.volumes.end()};
  for (const auto& [name, value] : config.labels) {
    (*process->mutable_labels())[name] = value;
  }
}

ImageStore::Turn::Turn(ImageStore* store) : store_(store) {
  base::MutexLock lock(&store_->mutex_);
  while (store_->turn_taken_) {
    store_->turn_free_.Wait(&store_->mutex_);
  }
  store_->turn_taken_ = true;
}

ImageStore::Turn::~Turn() {
  base::MutexLock lock(&store_->mutex_);
  store_->turn_taken_ = false;
  store_->turn_free_.NotifyOne();
}

absl::StatusOr<std::unique_ptr<ImageStore>> ImageStore::Open(const std::string& root,
                                                             const std::string& boot_id,
                                                             LayerStore* layers,
                                                             Problems* problems) {
  const std::string records = root + "/records/images";
  ASSIGN_OR_RETURN(base::RecordStore written,
                   base::RecordStore::Open(records, base::Durability::kVolatile));
  ASSIGN_OR_RETURN(base::RecordStore synced,
                   base::RecordStore::Open(records, base::Durability::kDurable));
  std::unique_ptr<ImageStore> store(
      new ImageStore(boot_id, layers, problems, std::move(written), std::move(synced)));
  RETURN_IF_ERROR(store->Load());
  return store;
}

absl::Status ImageStore::Load() {
  ASSIGN_OR_RETURN(const base::RecordStore::Loaded loaded, synced_.Load());
  for (const std::string& name : loaded.damaged) {
    problems_->Add(ObjectName(name), "its record is damaged; the next pull repairs it");
  }
  for (const auto& [name, bytes] : loaded.records) {
    ASSIGN_OR_RETURN(const bool good, LoadOne(name, bytes));
    if (!good) {
      RETURN_IF_ERROR(synced_.SetAside(name));
    }
  }
  SettleTags();
  return absl::OkStatus();
}

// Whether the record may stay where it is.
absl::StatusOr<bool> ImageStore::LoadOne(const std::string& name, const std::string& bytes) {
  ImageRecord record;
  if (!record.ParseFromString(bytes) || record.id() != name || !base::CheckHex64(name).ok()) {
    problems_->Add(ObjectName(name), "its record makes no sense; the next pull repairs it");
    return false;
  }
  if (!record.boot_id().empty() && record.boot_id() != boot_id_) {
    base::LogWarning("image ", name, ": dropped, the last boot ended before it was durable");
    RETURN_IF_ERROR(synced_.Delete(name));
    return true;
  }
  if (!layers_->PinPresent(OwnerOf(name), Strings(record.chain_ids()))) {
    AddLayerProblem(*FromRecord(record), problems_);
    return false;
  }
  base::MutexLock lock(&mutex_);
  images_[name] = FromRecord(record);
  return true;
}

// Of two records that claim a tag the later pull is right; the other was not rewritten in time.
void ImageStore::SettleTags() {
  base::MutexLock lock(&mutex_);
  std::map<std::string, ImagePtr> owners;
  for (const auto& [id, image] : images_) {
    for (const std::string& tag : image->tags) {
      ImagePtr& owner = owners[tag];
      if (owner == nullptr || owner->pulled_at < image->pulled_at) {
        owner = image;
      }
    }
  }
  for (auto& [id, image] : images_) {
    std::vector<std::string> lost;
    for (const std::string& tag : image->tags) {
      if (owners[tag]->id != id) {
        lost.push_back(tag);
      }
    }
    if (!lost.empty()) {
      image = Without(image, lost);
      robbed_.insert(id);
    }
  }
}

std::vector<ImagePtr> ImageStore::List() const {
  base::MutexLock lock(&mutex_);
  std::vector<ImagePtr> images;
  images.reserve(images_.size());
  for (const auto& [id, image] : images_) {
    images.push_back(image);
  }
  return images;
}

ImagePtr ImageStore::FindById(const std::string& id) const {
  base::MutexLock lock(&mutex_);
  const auto found = images_.find(id);
  return found == images_.end() ? nullptr : found->second;
}

ImagePtr ImageStore::FindByReference(const Reference& reference) const {
  const std::string name = reference.str();
  const bool by_digest = !reference.digest().empty();
  base::MutexLock lock(&mutex_);
  for (const auto& [id, image] : images_) {
    if (Contains(by_digest ? image->digests : image->tags, name)) {
      return image;
    }
  }
  return nullptr;
}

absl::StatusOr<ImagePtr> ImageStore::FindByPrefix(const std::string& prefix) const {
  base::MutexLock lock(&mutex_);
  const auto first = images_.lower_bound(prefix);
  const auto matches = [&prefix, end = images_.end()](auto at) {
    return at != end && at->first.substr(0, prefix.size()) == prefix;
  };
  if (!matches(first)) {
    return ImagePtr();
  }
  if (matches(std::next(first))) {
    return absl::InvalidArgumentError(
        base::StrCat("the ids of several images begin with \"", prefix, "\""));
  }
  return first->second;
}

absl::StatusOr<ImageRecord> ImageStore::Read(const std::string& id) const {
  ASSIGN_OR_RETURN(const std::string bytes, synced_.Get(id));
  ImageRecord record;
  if (!record.ParseFromString(bytes)) {
    return absl::DataLossError(base::StrCat("the record of image ", id, " makes no sense"));
  }
  return record;
}

absl::Status ImageStore::Write(const ImageRecord& record) const {
  const base::RecordStore& store = record.boot_id().empty() ? synced_ : written_;
  return base::Annotate(store.Put(record.id(), record.SerializeAsString()),
                        base::StrCat("record image ", record.id()));
}

absl::StatusOr<ImagePtr> ImageStore::Commit(ImageRecord record) {
  Turn turn(this);
  const ImagePtr before = FindById(record.id());
  if (before != nullptr && before->artifact_type.empty() != record.artifact().type().empty()) {
    return absl::FailedPreconditionError(base::StrCat(
        record.id(), " is the id of an image and of an artifact; remove one to pull the other"));
  }
  // Only a durable record may replace a durable one.
  const bool durable = before != nullptr && before->durable;
  record.set_boot_id(durable ? "" : boot_id_);
  record.set_pulled_at(absl::ToUnixNanos(absl::Now()));
  const Image none;
  const Image& known = before != nullptr ? *before : none;
  AddMissing(known.tags, record.mutable_tags());
  AddMissing(known.digests, record.mutable_digests());
  if (!layers_->PinPresent(OwnerOf(record.id()), Strings(record.chain_ids()))) {
    return absl::InternalError(base::StrCat("image ", record.id(), ": a layer is not present"));
  }
  if (const absl::Status written = Write(record); !written.ok()) {
    if (before == nullptr) {
      layers_->Release(OwnerOf(record.id()));
    }
    return written;
  }
  ImagePtr image = FromRecord(record);
  Publish(image);
  problems_->Resolve(ObjectName(image->id));
  if (durable) {
    RETURN_IF_ERROR(RewriteRobbed());
  }
  return image;
}

void ImageStore::Publish(const ImagePtr& image) {
  base::MutexLock lock(&mutex_);
  for (auto& [id, other] : images_) {
    ImagePtr rest = Without(other, image->tags);
    if (id != image->id && rest != other) {
      other = std::move(rest);
      robbed_.insert(id);
    }
  }
  robbed_.erase(image->id);
  images_[image->id] = image;
}

// The caller holds the turn. Goes on after an error, so that one bad record hinders no other.
absl::Status ImageStore::RewriteRobbed() {
  std::set<std::string> robbed;
  {
    base::MutexLock lock(&mutex_);
    robbed = robbed_;
  }
  absl::Status first_error;
  for (const std::string& id : robbed) {
    absl::Status status = RewriteTags(id);
    if (status.ok()) {
      base::MutexLock lock(&mutex_);
      robbed_.erase(id);
    }
    first_error.Update(status);
  }
  return first_error;
}

absl::Status ImageStore::RewriteTags(const std::string& id) {
  const ImagePtr image = FindById(id);
  if (image == nullptr) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(ImageRecord record, Read(id));
  record.clear_tags();
  for (const std::string& tag : image->tags) {
    record.add_tags(tag);
  }
  record.set_boot_id(image->durable ? "" : boot_id_);
  return Write(record);
}

absl::StatusOr<std::vector<Trash::Removal>> ImageStore::Remove(const std::string& id) {
  // Until the pins are released too: a pull of the same image would pin anew in between.
  Turn turn(this);
  const ImagePtr image = FindById(id);
  if (image == nullptr) {
    return std::vector<Trash::Removal>();
  }
  // While this image's record is there it outranks older claims to its tags.
  if (const absl::Status status = RewriteRobbed(); !status.ok()) {
    base::LogError("remove image ", id, ": ", base::ToStd(status.message()));
  }
  RETURN_IF_ERROR(base::Annotate(synced_.Delete(id), base::StrCat("remove image ", id)));
  base::LogInfo("removed image ", id, image->tags.empty() ? "" : " " + image->tags.front());
  {
    base::MutexLock lock(&mutex_);
    images_.erase(id);
    robbed_.erase(id);
  }
  return layers_->Release(OwnerOf(id));
}

absl::Status ImageStore::CheckLayers(const std::string& id) {
  const ImagePtr image = FindById(id);
  if (image == nullptr) {
    return absl::OkStatus();
  }
  layers_->DropDamaged(image->chain_ids);
  const auto lost =
      std::find_if(image->chain_ids.begin(), image->chain_ids.end(),
                   [&](const std::string& layer) { return !layers_->IsPresent(layer); });
  if (lost == image->chain_ids.end()) {
    return absl::OkStatus();
  }
  DropIncomplete();
  return absl::NotFoundError(base::StrCat("image ", NameOf(*image), " is damaged: layer ", *lost,
                                          " is missing on disk; pull the image again"));
}

// Sets aside the images that have lost a layer.
void ImageStore::DropIncomplete() {
  Turn turn(this);
  for (const ImagePtr& image : List()) {
    const bool complete =
        std::all_of(image->chain_ids.begin(), image->chain_ids.end(),
                    [&](const std::string& layer) { return layers_->IsPresent(layer); });
    if (complete) {
      continue;
    }
    AddLayerProblem(*image, problems_);
    if (const absl::Status status = synced_.SetAside(image->id); !status.ok()) {
      base::LogError(base::ToStd(status.message()));  // The next start finds it damaged again.
    }
    {
      base::MutexLock lock(&mutex_);
      images_.erase(image->id);
      robbed_.erase(image->id);
    }
    layers_->Release(OwnerOf(image->id));
  }
}

absl::Status ImageStore::MarkDurable(const std::string& id) {
  Turn turn(this);
  const ImagePtr image = FindById(id);
  if (image == nullptr) {
    return absl::OkStatus();
  }
  const bool ready =
      std::all_of(image->chain_ids.begin(), image->chain_ids.end(),
                  [&](const std::string& layer) { return layers_->IsDurable(layer); });
  if (!ready) {
    return absl::FailedPreconditionError(base::StrCat("image ", id, ": a layer is not durable"));
  }
  if (!image->durable) {
    auto marked = std::make_shared<Image>(*image);
    marked->durable = true;
    {
      base::MutexLock lock(&mutex_);
      images_[id] = marked;
    }
    if (const absl::Status status = RewriteTags(id); !status.ok()) {
      base::MutexLock lock(&mutex_);
      images_[id] = image;
      return status;
    }
  }
  return RewriteRobbed();
}

std::vector<std::string> ImageStore::NotDurable() const {
  base::MutexLock lock(&mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, image] : images_) {
    if (!image->durable) {
      ids.push_back(id);
    }
  }
  return ids;
}

}  // namespace imageservice
