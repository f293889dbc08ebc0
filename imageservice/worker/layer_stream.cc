#include "imageservice/worker/layer_stream.h"

#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/inflate.h"
#include "imageservice/worker/stage_timer.h"

namespace imageservice::worker {
namespace {

constexpr uint64_t kAnyRatio = uint64_t{1} << 30;  // So many bytes of archive are free.

class LayerStream {
 public:
  LayerStream(const LayerQuestion& layer, BlobForm form, const Limits& limits, LayerProcess process)
      : layer_(layer),
        form_(form),
        limits_(limits),
        process_(std::move(process)),
        blob_hasher_(layer.digest),
        inflater_([this](std::string_view bytes) { return TakeArchive(bytes); }) {}

  // Takes compressed bytes. Errors end the stream; damaged data is not one of them yet.
  absl::Status Take(std::string_view bytes) {
    timer_.Charge(&fetch_);
    blob_bytes_ += bytes.size();
    if (blob_bytes_ > layer_.size) {
      return absl::DataLossError(
          base::StrCat("the blob is longer than the ", layer_.size, " bytes of the manifest"));
    }
    blob_hasher_.Update(bytes);
    timer_.Charge(&digest_);
    if (content_.ok()) {
      content_ = form_ == BlobForm::kFile ? TakeArchive(bytes) : inflater_.Write(bytes);
      timer_.Charge(&inflate_);
    }
    return absl::IsInvalidArgument(content_) ? absl::OkStatus() : content_;
  }

  absl::StatusOr<LayerDone> Finish() {
    timer_.Charge(&fetch_);
    if (blob_bytes_ != layer_.size) {
      return absl::DataLossError(
          base::StrCat("the blob has ", blob_bytes_, " bytes instead of ", layer_.size));
    }
    if (const std::string digest = blob_hasher_.Finish(); digest != layer_.digest) {
      return absl::DataLossError(base::StrCat("the blob's digest is ", digest));
    }
    if (content_.ok() && form_ == BlobForm::kLayer) {
      content_ = inflater_.Finish();
    }
    RETURN_IF_ERROR(content_);
    const absl::StatusOr<Verified> verified = ReadResult(&process_);
    timer_.Charge(&unpack_);
    RETURN_IF_ERROR(verified.status());
    verifier_stages_ = verified->stages;
    if (verified->diff_id != layer_.diff_id) {
      return absl::InvalidArgumentError(
          base::StrCat("the archive's digest is sha256:", verified->diff_id,
                       " instead of the config's sha256:", layer_.diff_id));
    }
    return LayerDone{.index = layer_.index, .directory = process_.directory};
  }

  // What the stages took so far. While the archive waits for the verifier, that hashes or waits
  // itself.
  void AddStages(Stages* stages) const {
    stages->fetch += fetch_ / 1000;
    stages->digest += digest_ / 1000 + verifier_stages_.digest;
    stages->inflate += inflate_ / 1000;
    stages->unpack += verifier_stages_.unpack;
  }

 private:
  // Takes bytes of the archive.
  absl::Status TakeArchive(std::string_view bytes) {
    timer_.Charge(&inflate_);
    archive_bytes_ += bytes.size();
    if (limits_.max_compression_ratio > 0 && archive_bytes_ > kAnyRatio &&
        (archive_bytes_ - kAnyRatio) / limits_.max_compression_ratio > blob_bytes_) {
      return absl::ResourceExhaustedError(
          base::StrCat("the layer is compressed more than ", limits_.max_compression_ratio, ":1"));
    }
    while (!bytes.empty()) {
      const ssize_t n = write(process_.archive.get(), bytes.data(), bytes.size());
      if (n >= 0) {
        bytes.remove_prefix(static_cast<size_t>(n));
      } else if (errno == EPIPE) {
        const absl::Status reason = ReadResult(&process_).status();
        return reason.ok() ? absl::InternalError("the layer's verifier ended too early") : reason;
      } else if (errno != EINTR) {
        return base::ErrnoStatus(errno, "write to the verifier");
      }
    }
    timer_.Charge(&unpack_);
    return absl::OkStatus();
  }

  const LayerQuestion& layer_;
  const BlobForm form_;
  const Limits& limits_;
  LayerProcess process_;
  Hasher blob_hasher_;
  Inflater inflater_;
  uint64_t blob_bytes_ = 0;
  uint64_t archive_bytes_ = 0;
  absl::Status content_;  // What is wrong with the content, if the blob is the right one.
  Stages verifier_stages_;
  StageTimer timer_;
  uint64_t fetch_ = 0;  // In nanoseconds, as are the others.
  uint64_t digest_ = 0;
  uint64_t inflate_ = 0;
  uint64_t unpack_ = 0;
};

absl::StatusOr<LayerDone> Run(const ByteSource& source, LayerStream* stream,
                              std::atomic<uint64_t>* progress) {
  std::string chunk;
  for (;;) {
    ASSIGN_OR_RETURN(const bool has_more, source(&chunk));
    if (!has_more) {
      return stream->Finish();
    }
    *progress += chunk.size();
    RETURN_IF_ERROR(stream->Take(chunk));
  }
}

}  // namespace

absl::StatusOr<LayerDone> StreamLayer(const LayerQuestion& layer, BlobForm form,
                                      const Limits& limits, const ByteSource& source,
                                      LayerProcess process, std::atomic<uint64_t>* progress,
                                      Stages* stages) {
  LayerStream stream(layer, form, limits, std::move(process));
  absl::StatusOr<LayerDone> done = Run(source, &stream, progress);
  stream.AddStages(stages);
  return done;
}

}  // namespace imageservice::worker
