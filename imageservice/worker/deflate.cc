#include "imageservice/worker/deflate.h"

#include <isa-l.h>
#include <zstd.h>

#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/strings.h"

namespace imageservice::worker {
namespace {

constexpr size_t kOutputBytes = 256 << 10;
constexpr int kGzipLevel = 2;
constexpr int kZstdLevel = 3;

class Plain final : public Deflater {
 public:
  explicit Plain(Sink sink) : sink_(std::move(sink)) {}
  absl::Status Write(std::string_view bytes) override { return sink_(bytes); }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  const Sink sink_;
};

// The header has no name and no time.
class Gzip final : public Deflater {
 public:
  explicit Gzip(Sink sink)
      : sink_(std::move(sink)), output_(kOutputBytes), scratch_(ISAL_DEF_LVL2_LARGE) {
    isal_deflate_init(&state_);
    state_.level = kGzipLevel;
    state_.level_buf = scratch_.data();
    state_.level_buf_size = static_cast<uint32_t>(scratch_.size());
    state_.gzip_flag = IGZIP_GZIP;
  }

  absl::Status Write(std::string_view bytes) override {
    // The field is 32 bits wide; pieces are small.
    state_.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(bytes.data()));
    state_.avail_in = static_cast<uint32_t>(bytes.size());
    return Run();
  }

  absl::Status Finish() override {
    state_.end_of_stream = 1;
    state_.avail_in = 0;
    return Run();
  }

 private:
  absl::Status Run() {
    do {
      state_.next_out = output_.data();
      state_.avail_out = static_cast<uint32_t>(output_.size());
      if (const int result = isal_deflate(&state_); result != COMP_OK) {
        return absl::InternalError(base::StrCat("ISA-L cannot compress: ", result));
      }
      const size_t produced = output_.size() - state_.avail_out;
      if (produced > 0) {
        RETURN_IF_ERROR(
            sink_(std::string_view(reinterpret_cast<const char*>(output_.data()), produced)));
      }
    } while (state_.avail_out == 0);
    return absl::OkStatus();
  }

  const Sink sink_;
  std::vector<uint8_t> output_;
  std::vector<uint8_t> scratch_;
  isal_zstream state_;
};

class Zstd final : public Deflater {
 public:
  explicit Zstd(Sink sink)
      : sink_(std::move(sink)), output_(ZSTD_CStreamOutSize(), '\0'), context_(ZSTD_createCCtx()) {
    ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, kZstdLevel);
    ZSTD_CCtx_setParameter(context_, ZSTD_c_checksumFlag, 1);
  }
  ~Zstd() override { ZSTD_freeCCtx(context_); }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;

  absl::Status Write(std::string_view bytes) override { return Run(bytes, ZSTD_e_continue); }
  absl::Status Finish() override { return Run("", ZSTD_e_end); }

 private:
  absl::Status Run(std::string_view bytes, ZSTD_EndDirective directive) {
    ZSTD_inBuffer input = {bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer output = {output_.data(), output_.size(), 0};
      const size_t left = ZSTD_compressStream2(context_, &output, &input, directive);
      if (ZSTD_isError(left) != 0) {
        return absl::InternalError(base::StrCat("zstd cannot compress: ", ZSTD_getErrorName(left)));
      }
      if (output.pos > 0) {
        RETURN_IF_ERROR(sink_(std::string_view(output_).substr(0, output.pos)));
      }
      const bool is_done = directive == ZSTD_e_end ? left == 0 : input.pos == input.size;
      if (is_done) {
        return absl::OkStatus();
      }
    }
  }

  const Sink sink_;
  std::string output_;
  ZSTD_CCtx* const context_;
};

}  // namespace

std::unique_ptr<Deflater> Deflater::Create(ArchiveCompression compression, Sink sink) {
  switch (compression) {
    case ArchiveCompression::kGzip:
      return std::make_unique<Gzip>(std::move(sink));
    case ArchiveCompression::kZstd:
      return std::make_unique<Zstd>(std::move(sink));
    case ArchiveCompression::kNone:
      break;
  }
  return std::make_unique<Plain>(std::move(sink));
}

}  // namespace imageservice::worker
