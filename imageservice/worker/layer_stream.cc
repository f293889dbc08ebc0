#include "imageservice/worker/layer_stream.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/worker/digest.h"
#include "imageservice/worker/inflate.h"

namespace imageservice::worker {
namespace {

class LayerStream {
 public:
  LayerStream(const LayerQuestion& layer, const Limits& limits, ParserProcess parser)
      : layer_(layer),
        limits_(limits),
        parser_(std::move(parser)),
        blob_hasher_(layer.digest),
        archive_hasher_("sha256:"),
        inflater_([this](std::string_view bytes) { return TakeArchive(bytes); }) {}

  // Takes compressed bytes. Errors end the stream; damaged data is not one of them yet.
  absl::Status Take(std::string_view bytes) {
    blob_bytes_ += bytes.size();
    if (blob_bytes_ > layer_.size) {
      return absl::DataLossError(
          base::StrCat("the blob is longer than the ", layer_.size, " bytes of the manifest"));
    }
    blob_hasher_.Update(bytes);
    if (content_.ok() && !parser_gave_up_) {
      content_ = inflater_.Write(bytes);
    }
    return absl::IsResourceExhausted(content_) ? content_ : absl::OkStatus();
  }

  absl::StatusOr<LayerDone> Finish() {
    if (blob_bytes_ != layer_.size) {
      return absl::DataLossError(
          base::StrCat("the blob has ", blob_bytes_, " bytes instead of ", layer_.size));
    }
    if (const std::string digest = blob_hasher_.Finish(); digest != layer_.digest) {
      return absl::DataLossError(base::StrCat("the blob's digest is ", digest));
    }
    if (content_.ok() && !parser_gave_up_) {
      content_ = inflater_.Finish();
    }
    RETURN_IF_ERROR(content_);
    ASSIGN_OR_RETURN(LayerDone done, ReadParserResult(&parser_));
    if (parser_gave_up_) {
      return absl::InternalError("the archive's parser ended too early");
    }
    const std::string diff_id = archive_hasher_.Finish();
    if (diff_id != base::StrCat("sha256:", layer_.diff_id)) {
      return absl::InvalidArgumentError(base::StrCat(
          "the archive's digest is ", diff_id, " instead of the config's sha256:", layer_.diff_id));
    }
    done.index = layer_.index;
    done.chain_id = layer_.chain_id;
    return done;
  }

 private:
  // Takes bytes of the archive.
  absl::Status TakeArchive(std::string_view bytes) {
    archive_bytes_ += bytes.size();
    if (archive_bytes_ > limits_.max_layer_bytes) {
      return absl::ResourceExhaustedError(
          base::StrCat("the layer is larger than ", limits_.max_layer_bytes, " bytes"));
    }
    archive_hasher_.Update(bytes);
    while (!bytes.empty() && !parser_gave_up_) {
      const ssize_t n = write(parser_.input.get(), bytes.data(), bytes.size());
      if (n >= 0) {
        bytes.remove_prefix(static_cast<size_t>(n));
      } else if (errno == EPIPE) {
        parser_gave_up_ = true;  // It will say why.
      } else if (errno != EINTR) {
        return base::ErrnoStatus(errno, "write to the parser");
      }
    }
    return absl::OkStatus();
  }

  const LayerQuestion& layer_;
  const Limits& limits_;
  ParserProcess parser_;
  Hasher blob_hasher_;
  Hasher archive_hasher_;
  Inflater inflater_;
  uint64_t blob_bytes_ = 0;
  uint64_t archive_bytes_ = 0;
  bool parser_gave_up_ = false;
  absl::Status content_;  // What is wrong with the content, if the blob is the right one.
};

}  // namespace

absl::StatusOr<LayerDone> StreamLayer(const LayerQuestion& layer, const Limits& limits,
                                      const ByteSource& source, ParserProcess parser,
                                      std::atomic<uint64_t>* progress) {
  LayerStream stream(layer, limits, std::move(parser));
  std::string chunk;
  for (;;) {
    ASSIGN_OR_RETURN(const bool has_more, source(&chunk));
    if (!has_more) {
      return stream.Finish();
    }
    *progress += chunk.size();
    RETURN_IF_ERROR(stream.Take(chunk));
  }
}

}  // namespace imageservice::worker
