// PullSession: finished layers and the image come into the store.
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/image_names.h"
#include "imageservice/pull_session.h"
#include "imageservice/store/deferred.h"

namespace imageservice {

// From the bottom up, since a layer's last steps look at the ones below it.
absl::Status PullSession::CommitLayers(const base::Context& ctx) {
  const auto begin = std::chrono::steady_clock::now();
  while (committed_ < layers_.size()) {
    Layer& layer = layers_[committed_];
    if (layer.claim != LayerStore::Claim::kPresent) {
      if (!layer.done.has_value()) {
        break;
      }
      RETURN_IF_ERROR(base::Annotate(CommitLayer(ctx, layer),
                                     base::StrCat("layer sha256:", layer.question.diff_id)));
      layer.done->deferred = {};  // It is done, and can be megabytes.
    }
    ++committed_;
    ReportLayers();
  }
  commit_time_ += absl::FromChrono(std::chrono::steady_clock::now() - begin);
  return absl::OkStatus();
}

absl::Status PullSession::CommitLayer(const base::Context& ctx, const Layer& layer) {
  const bool is_file = !image_.artifact_type.empty();
  if (is_file && !layer.done->deferred.empty()) {
    return BrokenProtocol("an artifact's file with work that is left to do");
  }
  std::vector<std::string> lower;
  for (size_t below = committed_; below > 0 && !is_file; --below) {
    lower.push_back(environment_.layers->PathOf(layers_[below - 1].question.chain_id));
  }
  const std::string directory = FinishedPath(layer.question.index);
  RETURN_IF_ERROR(ApplyDeferred(ctx, directory, lower, layer.done->deferred));
  LayerInfo info;
  info.chain_id = layer.question.chain_id;
  info.parent = layer.question.parent;
  info.diff_id = layer.question.diff_id;
  info.bytes = layer.done->bytes;
  info.inodes = layer.done->inodes;
  return environment_.layers->Commit(owner_, info, directory);
}

absl::StatusOr<ImagePtr> PullSession::CommitImage() {
  crisp::state::ImageRecord record;
  record.set_id(resolved_->image_id);
  NameImage(plan_, *resolved_, &record);
  std::vector<std::string> chain_ids;
  for (const Layer& layer : layers_) {
    chain_ids.push_back(layer.question.chain_id);
    record.add_chain_ids(layer.question.chain_id);
  }
  record.set_bytes(environment_.layers->UsageOf(chain_ids).bytes + resolved_->config.size() +
                   resolved_->manifest.size());
  record.set_config(std::move(resolved_->config));
  record.set_manifest(std::move(resolved_->manifest));
  if (!image_.artifact_type.empty()) {
    record.mutable_artifact()->set_type(image_.artifact_type);
  }
  SetProcess(image_.config.process, record.mutable_process());
  return environment_.images->Commit(std::move(record));
}

}  // namespace imageservice
