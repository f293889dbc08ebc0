#include "imageservice/worker/inflate.h"

#include <gtest/gtest.h>

#include <algorithm>
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

TEST(InflaterTest, PassesOverWhatIsNoMemberAfterGzip) {
  const std::string trailing[] = {std::string(512, '\0'), "g", "garbage",
                                  std::string(4, '\0') + Gzip("y")};
  for (const std::string& bytes : trailing) {
    for (const size_t step : {size_t{1}, size_t{1000}}) {
      EXPECT_EQ(Inflate(Gzip("x") + bytes, step).value(), "x") << bytes;
    }
  }
}

TEST(InflaterTest, RejectsAMemberThatIsCut) {
  for (const std::string cut : {"\x1f", "\x1f\x8b"}) {
    EXPECT_EQ(Inflate(Gzip("x") + cut).status().code(), absl::StatusCode::kInvalidArgument);
  }
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

// A frame of zstd whose header says a window of 1 << `log` bytes, and blocks of 128 KiB zeros, each
// of which takes four bytes.
std::string ZstdZeros(int log, int blocks) {
  std::string frame("\x28\xb5\x2f\xfd\x00", 5);
  frame += static_cast<char>((log - 10) << 3);
  for (int i = 0; i < blocks; ++i) {
    const unsigned header = (128u << 10) << 3 | 1u << 1 | (i + 1 == blocks ? 1 : 0);
    for (const int shift : {0, 8, 16}) frame += static_cast<char>(header >> shift & 0xff);
    frame += '\0';
  }
  return frame;
}

TEST(InflaterTest, RefusesWindowsThatTakeTooMuchMemory) {
  EXPECT_EQ(Inflate(ZstdZeros(27, 4)).value().size(), 4u << 17);
  for (const int log : {28, 31, 41}) {
    EXPECT_EQ(Inflate(ZstdZeros(log, 4)).status().code(), absl::StatusCode::kInvalidArgument)
        << log;
  }
}

TEST(InflaterTest, ABombComesInPiecesUntilTheSinkHasEnough) {
  // 100 KB that would be 3 GiB.
  const std::string bomb = ZstdZeros(17, 24 << 10);
  uint64_t taken = 0;
  size_t largest = 0;
  Inflater inflater([&](std::string_view piece) {
    largest = std::max(largest, piece.size());
    taken += piece.size();
    return taken > 64 << 20 ? absl::ResourceExhaustedError("enough") : absl::OkStatus();
  });
  EXPECT_EQ(inflater.Write(bomb).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LE(largest, size_t{256} << 10);
  EXPECT_LE(taken, (uint64_t{64} << 20) + (256 << 10));
}

TEST(InflaterTest, CompressedContentIsOnlyContent) {
  const std::string inner = Gzip(std::string(1 << 20, '\0'));
  EXPECT_EQ(Inflate(Gzip(inner)).value(), inner);
  EXPECT_EQ(Inflate(Zstd(inner)).value(), inner);
}

TEST(InflaterTest, ReadsZstdChunkedAndEStargzAsPlainStreams) {
  // zstd:chunked: a frame per file, then the table of contents and its footer as skippable frames.
  const std::string toc("\x50\x2a\x4d\x18\x04\0\0\0{}{}", 12);
  const std::string footer = std::string("\x50\x2a\x4d\x18\x40\0\0\0", 8) + std::string(64, 'f');
  // eStargz: a member per file, and an empty one with an extra field that says where the table is.
  const std::string empty(
      "\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0"
      "0000000000000010STARGZ\x01\0\0\xff\xff\0\0\0\0\0\0\0\0",
      51);
  for (const size_t step : {size_t{1}, size_t{5}, size_t{1000}}) {
    EXPECT_EQ(Inflate(Zstd("one ") + Zstd("two ") + Zstd("end") + toc + footer, step).value(),
              "one two end");
    const auto stargz = Inflate(Gzip("one ") + Gzip("two ") + Gzip("end") + empty, step);
    ASSERT_TRUE(stargz.ok()) << stargz.status();
    EXPECT_EQ(*stargz, "one two end");
  }
}

TEST(InflaterTest, GzipHeadersMayBeCutAnywhere) {
  std::string member = Gzip("content");
  ASSERT_EQ(member.substr(0, 4), std::string("\x1f\x8b\x08\0", 4));
  member[3] = 0x04 | 0x08 | 0x10;  // Extra field, name, comment.
  member.insert(10, std::string("\x03\0abcname\0comment\0", 18));
  const std::string both = member + member;
  for (size_t step = 1; step <= both.size(); ++step) {
    const auto inflated = Inflate(both, step);
    ASSERT_TRUE(inflated.ok()) << inflated.status() << ", in steps of " << step;
    EXPECT_EQ(*inflated, "contentcontent");
  }
}

TEST(InflaterTest, RejectsGarbageAfterZstd) {
  EXPECT_EQ(Inflate(Zstd("x") + "garbage").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(Inflate(Zstd("x") + std::string(512, '\0')).ok());
}

TEST(InflaterTest, ZstdDoesNotDependOnThePieces) {
  // After its magic number this header reads like a skippable frame of three bytes.
  const std::string confusing("\x28\xb5\x2f\xfd\x50\x2a\x4d\x18\x03\0\0\0\x78\x87\xa4", 15);
  for (const std::string& bytes : {confusing, Zstd("x") + confusing, confusing + Zstd("x")}) {
    for (const size_t step : {size_t{1}, size_t{3}, size_t{4}, size_t{1000}}) {
      EXPECT_EQ(Inflate(bytes, step).status().code(), absl::StatusCode::kInvalidArgument) << step;
    }
  }
}

TEST(InflaterTest, ZstdFramesMayBeShorterThanTheLongestHeader) {
  std::string frames;
  std::string expected;
  for (int i = 0; i < 50; ++i) {
    const std::string text(static_cast<size_t>(i % 7), static_cast<char>('a' + i % 26));
    frames += Zstd(text) + std::string("\x50\x2a\x4d\x18\0\0\0\0", 8);
    expected += text;
  }
  for (const size_t step : {size_t{1}, size_t{5}, size_t{1000}}) {
    EXPECT_EQ(Inflate(frames, step).value(), expected) << step;
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
