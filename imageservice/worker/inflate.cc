#include "imageservice/worker/inflate.h"

#include <isa-l.h>
#include <zstd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {

class Inflater::Codec {
 public:
  virtual ~Codec() = default;
  virtual absl::Status Write(std::string_view compressed) = 0;
  virtual absl::Status Finish() = 0;
};

namespace {

constexpr size_t kOutputBytes = 256 << 10;
constexpr size_t kMagicBytes = 4;
constexpr int kMaxWindowLog = 27;

class Plain : public Inflater::Codec {
 public:
  explicit Plain(const Inflater::Sink& sink) : sink_(sink) {}
  absl::Status Write(std::string_view bytes) override { return sink_(bytes); }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  const Inflater::Sink& sink_;
};

class Gzip : public Inflater::Codec {
 public:
  explicit Gzip(const Inflater::Sink& sink) : sink_(sink), output_(kOutputBytes) {
    isal_inflate_init(&state_);
    BeginMember();
  }

  absl::Status Write(std::string_view bytes) override {
    state_.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(bytes.data()));
    state_.avail_in = static_cast<uint32_t>(bytes.size());
    while (state_.avail_in > 0 || has_more_output_) {
      if (position_ == Position::kInHeader) {
        RETURN_IF_ERROR(ReadHeader());
      } else if (position_ == Position::kInMember) {
        RETURN_IF_ERROR(Inflate());
      } else {
        RETURN_IF_ERROR(Skip());
      }
    }
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    return position_ == Position::kInHeader || position_ == Position::kInMember
               ? absl::InvalidArgumentError("the gzip stream ends too early")
               : absl::OkStatus();
  }

 private:
  // After a member comes another member or the end, or what is none (padding, a signature): that is
  // passed over with all that follows, as gzip and unpigz do. What counts is the archive's digest.
  enum class Position { kInHeader, kInMember, kAfterMember, kTrailing };

  void BeginMember() {
    isal_inflate_reset(&state_);
    isal_gzip_header_init(&header_);
    position_ = Position::kInHeader;
  }

  // isal_inflate would read headers, too, but forgets between its calls what it has read of one
  // with an extra field or a name.
  absl::Status ReadHeader() {
    const int result = isal_read_gzip_header(&state_, &header_);
    if (result == ISAL_DECOMP_OK) {
      state_.crc_flag = ISAL_GZIP_NO_HDR_VER;
      position_ = Position::kInMember;
    } else if (result != ISAL_END_INPUT) {
      return absl::InvalidArgumentError(
          base::StrCat("the gzip stream is damaged (ISA-L says ", result, " of a header)"));
    }
    return absl::OkStatus();
  }

  absl::Status Inflate() {
    state_.next_out = output_.data();
    state_.avail_out = kOutputBytes;
    if (const int result = isal_inflate(&state_); result != ISAL_DECOMP_OK) {
      return absl::InvalidArgumentError(
          base::StrCat("the gzip stream is damaged (ISA-L says ", result, ")"));
    }
    const size_t produced = kOutputBytes - state_.avail_out;
    if (produced > 0) {
      RETURN_IF_ERROR(
          sink_(std::string_view(reinterpret_cast<const char*>(output_.data()), produced)));
    }
    if (state_.block_state == ISAL_BLOCK_FINISH) {
      position_ = Position::kAfterMember;
      has_more_output_ = false;
    } else {
      // A full buffer may have more behind it although the input is used up.
      has_more_output_ = state_.avail_out == 0;
      if (produced == 0 && state_.avail_in > 0) {
        return absl::InvalidArgumentError("the gzip stream is damaged");
      }
    }
    return absl::OkStatus();
  }

  absl::Status Skip() {
    if (*state_.next_in != 0x1f || position_ == Position::kTrailing) {
      position_ = Position::kTrailing;
      state_.avail_in = 0;
      return absl::OkStatus();
    }
    BeginMember();
    return absl::OkStatus();
  }

  const Inflater::Sink& sink_;
  std::vector<uint8_t> output_;
  inflate_state state_ = {};
  isal_gzip_header header_ = {};
  Position position_ = Position::kInHeader;
  bool has_more_output_ = false;
};

class Zstd : public Inflater::Codec {
 public:
  explicit Zstd(const Inflater::Sink& sink)
      : sink_(sink), output_(ZSTD_DStreamOutSize()), context_(ZSTD_createDCtx()) {
    ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kMaxWindowLog);
  }
  ~Zstd() override { ZSTD_freeDCtx(context_); }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;

  absl::Status Write(std::string_view bytes) override {
    while (!bytes.empty()) {
      if (is_frame_complete_) {
        // libzstd 1.5.4 may take what follows a part of a frame's header for a frame of its own, so
        // it gets headers whole, whatever the pieces in which they come.
        const size_t missing = std::min(kHeaderBytes - head_.size(), bytes.size());
        head_ += bytes.substr(0, missing);
        bytes.remove_prefix(missing);
        if (head_.size() < kHeaderBytes) {
          return absl::OkStatus();
        }
        RETURN_IF_ERROR(DecompressHead());
      } else {
        ASSIGN_OR_RETURN(const size_t used, Decompress(bytes));
        bytes.remove_prefix(used);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    while (is_frame_complete_ && !head_.empty()) {
      RETURN_IF_ERROR(DecompressHead());
    }
    return is_frame_complete_ ? absl::OkStatus()
                              : absl::InvalidArgumentError("the zstd stream ends too early");
  }

 private:
  static constexpr size_t kHeaderBytes = 18;  // Of the longest header of a frame.

  // Whatever follows a frame that ends within the head is the next one's head.
  absl::Status DecompressHead() {
    ASSIGN_OR_RETURN(const size_t used, Decompress(head_));
    head_.erase(0, used);
    return absl::OkStatus();
  }

  // Takes bytes up to the end of the frame that they begin or go on with; how many.
  absl::StatusOr<size_t> Decompress(std::string_view bytes) {
    ZSTD_inBuffer input = {bytes.data(), bytes.size(), 0};
    bool is_output_full = false;
    do {
      ZSTD_outBuffer output = {output_.data(), output_.size(), 0};
      const size_t result = ZSTD_decompressStream(context_, &output, &input);
      if (ZSTD_isError(result) != 0) {
        return absl::InvalidArgumentError(
            base::StrCat("the zstd stream is damaged: ", ZSTD_getErrorName(result)));
      }
      is_frame_complete_ = result == 0;
      is_output_full = output.pos == output.size;
      if (output.pos > 0) {
        RETURN_IF_ERROR(sink_(std::string_view(output_.data(), output.pos)));
      }
    } while (!is_frame_complete_ && (input.pos < input.size || is_output_full));
    return input.pos;
  }

  const Inflater::Sink& sink_;
  std::vector<char> output_;
  ZSTD_DCtx* const context_;
  std::string head_;  // Of a frame, as far as it is here.
  bool is_frame_complete_ = true;
};

}  // namespace

Inflater::Inflater(Sink sink) : sink_(std::move(sink)) {}

Inflater::~Inflater() = default;

absl::Status Inflater::Start() {
  const auto starts_with = [this](std::string_view magic) { return head_.starts_with(magic); };
  const auto byte = [this](size_t i) { return static_cast<unsigned char>(head_[i]); };
  const bool is_skippable = head_.size() >= kMagicBytes && (byte(0) & 0xf0) == 0x50 &&
                            std::string_view(head_).substr(1).starts_with("\x2a\x4d\x18");
  if (starts_with("\x1f\x8b")) {
    codec_ = std::make_unique<Gzip>(sink_);
  } else if (starts_with("\x28\xb5\x2f\xfd") || is_skippable) {
    codec_ = std::make_unique<Zstd>(sink_);
  } else if (starts_with("BZh")) {
    return absl::InvalidArgumentError("bzip2 compression is not supported");
  } else if (starts_with("\xfd"
                         "7zX")) {
    return absl::InvalidArgumentError("xz compression is not supported");
  } else {
    codec_ = std::make_unique<Plain>(sink_);
  }
  return codec_->Write(std::exchange(head_, std::string()));
}

absl::Status Inflater::Write(std::string_view compressed) {
  if (codec_ != nullptr) {
    return compressed.empty() ? absl::OkStatus() : codec_->Write(compressed);
  }
  const size_t missing = std::min(kMagicBytes - head_.size(), compressed.size());
  head_ += compressed.substr(0, missing);
  if (head_.size() < kMagicBytes) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(Start());
  return Write(compressed.substr(missing));
}

absl::Status Inflater::Finish() {
  if (codec_ == nullptr) {
    if (head_.empty()) {
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(Start());
  }
  return codec_->Finish();
}

}  // namespace imageservice::worker
