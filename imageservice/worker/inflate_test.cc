#include "imageservice/worker/inflate.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/status/statusor.h"
#include "imageservice/worker/test_archive.h"

namespace imageservice::worker {
namespace {

// What `bytes` inflate to when they come in pieces of `step`.
absl::StatusOr<std::string> Inflate(std::string_view bytes, size_t step = 1 << 20) {
  std::string out;
  Inflater inflater([&out](std::string_view piece) {
    out += piece;
    return absl::OkStatus();
  });
  for (size_t i = 0; i < bytes.size(); i += step) {
    if (absl::Status status = inflater.Write(bytes.substr(i, step)); !status.ok()) return status;
  }
  if (absl::Status status = inflater.Finish(); !status.ok()) return status;
  return out;
}

// Text that does compress, but not to nothing.
std::string Sample(size_t size) {
  std::string text;
  uint32_t state = 12345;
  while (text.size() < size) {
    state = state * 1664525 + 1013904223;
    text += std::to_string(state >> 20) + ",";
  }
  text.resize(size);
  return text;
}

TEST(InflaterTest, InflatesGzipInPiecesOfAnySize) {
  const std::string sample = Sample(700'000);
  for (const size_t step : {size_t{1}, size_t{7}, size_t{4096}, size_t{1 << 20}}) {
    const auto out = Inflate(Gzip(sample), step);
    ASSERT_TRUE(out.ok()) << step << out.status();
    EXPECT_EQ(*out, sample) << step;
  }
}

TEST(InflaterTest, InflatesZstdInPiecesOfAnySize) {
  const std::string sample = Sample(700'000);
  for (const size_t step : {size_t{1}, size_t{7}, size_t{4096}, size_t{1 << 20}}) {
    const auto out = Inflate(Zstd(sample), step);
    ASSERT_TRUE(out.ok()) << step << out.status();
    EXPECT_EQ(*out, sample) << step;
  }
}

TEST(InflaterTest, HandsOutAllOfHighlyCompressedData) {
  const std::string zeros(20 << 20, '\0');
  EXPECT_EQ(Inflate(Gzip(zeros)).value().size(), zeros.size());
  EXPECT_EQ(Inflate(Zstd(zeros)).value().size(), zeros.size());
}

TEST(InflaterTest, PassesPlainDataThrough) {
  EXPECT_EQ(Inflate("plain tar data").value(), "plain tar data");
  EXPECT_EQ(Inflate("ab").value(), "ab");
  EXPECT_EQ(Inflate("").value(), "");
}

TEST(InflaterTest, ConcatenatesGzipMembers) {
  const std::string members = Gzip("one ") + Gzip("") + Gzip("two");
  for (const size_t step : {size_t{1}, size_t{1000}}) {
    EXPECT_EQ(Inflate(members, step).value(), "one two");
  }
}

TEST(InflaterTest, ToleratesZerosAfterGzip) {
  EXPECT_EQ(Inflate(Gzip("x") + std::string(512, '\0')).value(), "x");
}

TEST(InflaterTest, RejectsGarbageAfterGzip) {
  for (const std::string garbage : {"g", "garbage", "\x1f", "\x1f\x8b"}) {
    EXPECT_EQ(Inflate(Gzip("x") + garbage).status().code(), absl::StatusCode::kInvalidArgument)
        << garbage;
  }
  EXPECT_FALSE(Inflate(Gzip("x") + std::string(4, '\0') + Gzip("y")).ok());
}

TEST(InflaterTest, RejectsTruncatedStreamsAtEveryByte) {
  const std::string gzip = Gzip("some text, some text");
  const std::string zstd = Zstd("some text, some text");
  for (size_t n = 4; n < gzip.size(); ++n) {
    EXPECT_FALSE(Inflate(gzip.substr(0, n)).ok()) << n;
  }
  for (size_t n = 4; n < zstd.size(); ++n) {
    EXPECT_FALSE(Inflate(zstd.substr(0, n)).ok()) << n;
  }
}

TEST(InflaterTest, RejectsAWrongChecksum) {
  std::string gzip = Gzip("some text");
  gzip[gzip.size() - 6] = static_cast<char>(gzip[gzip.size() - 6] ^ 1);
  EXPECT_EQ(Inflate(gzip).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(InflaterTest, SkipsSkippableZstdFrames) {
  const std::string skippable("\x50\x2a\x4d\x18\x03\x00\x00\x00xyz", 11);
  for (const size_t step : {size_t{1}, size_t{1000}}) {
    EXPECT_EQ(Inflate(skippable + Zstd("one ") + skippable + Zstd("two"), step).value(), "one two");
  }
}

TEST(InflaterTest, RefusesOtherCompressionsByName) {
  EXPECT_NE(Inflate("BZh91AY&SY").status().message().find("bzip2"), absl::string_view::npos);
  EXPECT_NE(Inflate(std::string("\xfd"
                                "7zXZ\0",
                                6))
                .status()
                .message()
                .find("xz"),
            absl::string_view::npos);
}

TEST(InflaterTest, EndsWithTheSinksError) {
  Inflater inflater([](std::string_view) { return absl::ResourceExhaustedError("full"); });
  EXPECT_EQ(inflater.Write(Gzip("text")).code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace imageservice::worker
