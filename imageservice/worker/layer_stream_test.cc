// The limit on compression; everything else of a stream is tested with the real worker.
#include "imageservice/worker/layer_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <string>

#include "base/strings.h"
#include "imageservice/worker/digest.h"

namespace imageservice::worker {
namespace {

// A frame of zstd that is `blocks` times 128 KiB of zeros, each in four bytes.
std::string Zeros(int blocks) {
  std::string frame("\x28\xb5\x2f\xfd\x00\x38", 6);
  for (int i = 0; i < blocks; ++i) {
    frame +=
        i + 1 == blocks ? std::string("\x03\x00\x10\x00", 4) : std::string("\x02\x00\x10\x00", 4);
  }
  return frame;
}

// How streaming `blob` ends when nobody looks at the archive: no verifier answers.
absl::Status Stream(const std::string& blob, uint64_t max_ratio) {
  LayerQuestion layer;
  layer.digest = base::StrCat("sha256:", Sha256Hex(blob));
  layer.size = blob.size();
  Limits limits;
  limits.max_compression_ratio = max_ratio;
  LayerProcess process;
  process.archive.Reset(open("/dev/null", O_WRONLY | O_CLOEXEC));
  process.result.Reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
  size_t at = 0;
  const ByteSource source = [&](std::string* chunk) -> absl::StatusOr<bool> {
    *chunk = blob.substr(at, 16 << 10);
    at += chunk->size();
    return !chunk->empty();
  };
  std::atomic<uint64_t> progress = 0;
  Stages stages;
  return StreamLayer(layer, BlobForm::kLayer, limits, source, std::move(process), &progress,
                     &stages)
      .status();
}

TEST(LayerStreamTest, ABombIsStoppedByItsRatio) {
  const absl::Status status = Stream(Zeros(20 << 10), Limits().max_compression_ratio);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("1100:1"), absl::string_view::npos) << status;
}

TEST(LayerStreamTest, TheFirstGibibyteMayBeZero) {
  EXPECT_FALSE(absl::IsResourceExhausted(Stream(Zeros(8 << 10), 1100)));
  EXPECT_FALSE(absl::IsResourceExhausted(Stream(Zeros(20 << 10), 0))) << "no limit";
}

}  // namespace
}  // namespace imageservice::worker
