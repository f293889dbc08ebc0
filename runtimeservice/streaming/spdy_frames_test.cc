#include "runtimeservice/streaming/spdy_frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "runtimeservice/streaming/test_spdy_vectors.h"

namespace streaming {
namespace {

using ::testing::HasSubstr;
using Type = SpdyFrame::Type;

constexpr size_t kMaxFrame = 1 << 20;
constexpr size_t kMaxHeader = 4096;

// A frame whose bytes are its own; parts of one DATA frame are joined.
struct Frame {
  SpdyFrame head;
  std::string bytes;
};

absl::StatusOr<std::vector<Frame>> Decode(std::string_view bytes, size_t cut) {
  SpdyDecoder decoder(kMaxFrame, kMaxHeader);
  std::vector<Frame> frames;
  bool open = false;  // The last one is a DATA frame that may go on.
  while (!bytes.empty()) {
    // A copy of its own, so that a view that outlives it is seen by the sanitizers.
    const std::string piece(bytes.substr(0, cut));
    bytes.remove_prefix(piece.size());
    std::string_view input = piece;
    while (true) {
      const absl::StatusOr<std::optional<SpdyFrame>> frame = decoder.Next(&input);
      if (!frame.ok()) {
        return frame.status();
      }
      if (!frame->has_value()) {
        break;
      }
      if (open && (*frame)->type == Type::kData && !frames.back().head.fin) {
        frames.back().bytes += (*frame)->bytes;
        frames.back().head.fin = (*frame)->fin;
      } else {
        frames.push_back({**frame, std::string((*frame)->bytes)});
      }
      open = (*frame)->type == Type::kData;
    }
    EXPECT_TRUE(input.empty());
  }
  return frames;
}

absl::StatusOr<Frame> DecodeOne(std::string_view bytes) {
  absl::StatusOr<std::vector<Frame>> frames = Decode(bytes, bytes.size());
  if (!frames.ok()) {
    return frames.status();
  }
  if (frames->size() != 1) {
    return absl::NotFoundError(base::StrCat(frames->size(), " frames"));
  }
  return frames->front();
}

std::string Hex(std::string_view hex) { return absl::HexStringToBytes(base::ToAbsl(hex)); }

TEST(SpdyFramesTest, EveryVectorIsDecodedAndEncodedAgain) {
  for (const SpdyVector& vector : SpdyVectors()) {
    SCOPED_TRACE(vector.frame);
    const absl::StatusOr<Frame> frame = DecodeOne(vector.bytes());
    ASSERT_TRUE(frame.ok()) << frame.status();
    const SpdyFrame& head = frame->head;
    std::string again;
    switch (head.type) {
      case Type::kData:
        again = SpdyData(head.stream, frame->bytes, head.fin);
        break;
      case Type::kSynStream:
        again = SpdySynStream(head.stream, frame->bytes, head.fin);
        break;
      case Type::kSynReply:
        again = SpdySynReply(head.stream, frame->bytes, head.fin);
        break;
      case Type::kReset:
        again = SpdyRstStream(head.stream, static_cast<SpdyReset>(head.value));
        break;
      case Type::kPing:
        again = SpdyPing(head.value);
        break;
      case Type::kGoAway:
        again = SpdyGoAwayFrame(head.stream, static_cast<SpdyGoAway>(head.value));
        break;
      default:  // Never sent.
        EXPECT_TRUE(vector.frame.starts_with("SETTINGS") ||
                    vector.frame.starts_with("WINDOW_UPDATE"));
        continue;
    }
    EXPECT_EQ(again, vector.bytes());
  }
}

TEST(SpdyFramesTest, CutsMakeNoDifference) {
  std::string bytes;
  for (const SpdyVector& vector : SpdyVectors()) {
    bytes += vector.bytes();
  }
  const absl::StatusOr<std::vector<Frame>> whole = Decode(bytes, bytes.size());
  ASSERT_TRUE(whole.ok());
  // A DATA frame without FIN may be joined with the next one, here and there alike.
  for (size_t cut = 1; cut < 70; ++cut) {
    const absl::StatusOr<std::vector<Frame>> frames = Decode(bytes, cut);
    ASSERT_TRUE(frames.ok()) << cut;
    ASSERT_EQ(frames->size(), whole->size()) << cut;
    for (size_t number = 0; number < whole->size(); ++number) {
      EXPECT_EQ((*frames)[number].bytes, (*whole)[number].bytes);
      EXPECT_EQ((*frames)[number].head.type, (*whole)[number].head.type);
      EXPECT_EQ((*frames)[number].head.stream, (*whole)[number].head.stream);
      EXPECT_EQ((*frames)[number].head.value, (*whole)[number].head.value);
      EXPECT_EQ((*frames)[number].head.fin, (*whole)[number].head.fin);
    }
  }
}

TEST(SpdyFramesTest, DataGoesThroughInPartsAndEndsWithTheLast) {
  SpdyDecoder decoder(kMaxFrame, kMaxHeader);
  const std::string bytes = SpdyData(5, "hello", true);
  std::string_view input = std::string_view(bytes).substr(0, 10);
  absl::StatusOr<std::optional<SpdyFrame>> part = decoder.Next(&input);
  ASSERT_TRUE(part.ok() && part->has_value());
  EXPECT_EQ((*part)->bytes.data(), bytes.data() + 8);  // Not a copy.
  EXPECT_EQ((*part)->bytes, "he");
  EXPECT_FALSE((*part)->fin);
  EXPECT_FALSE(decoder.Next(&input)->has_value());
  input = std::string_view(bytes).substr(10);
  part = decoder.Next(&input);
  EXPECT_EQ((*part)->bytes, "llo");
  EXPECT_TRUE((*part)->fin);
}

TEST(SpdyFramesTest, UnknownControlFramesAreSkipped) {
  const std::string bytes = Hex("8003000a00000003") + "abc" + Hex("8003000b00000000") + SpdyPing(7);
  for (const size_t cut : {size_t{1}, bytes.size()}) {
    const absl::StatusOr<std::vector<Frame>> frames = Decode(bytes, cut);
    ASSERT_TRUE(frames.ok());
    ASSERT_EQ(frames->size(), 1);
    EXPECT_EQ(frames->front().head.value, 7);
  }
}

TEST(SpdyFramesTest, WrongLengthsAreErrors) {
  for (const std::string_view head :
       {"8003000100000009", "8003000200000003", "8003000300000007", "8003000300000009",
        "8003000400000003", "8003000600000003", "8003000600000005", "8003000700000004",
        "8003000800000003", "8003000900000009", "800300040000000c00000002"}) {
    EXPECT_EQ(Decode(Hex(head), 100).status().code(), absl::StatusCode::kInvalidArgument) << head;
  }
}

TEST(SpdyFramesTest, OtherVersionsAreErrors) {
  EXPECT_FALSE(Decode(Hex("8002000600000004"), 100).ok());
  EXPECT_FALSE(Decode("GET / HTTP/1.1\r\n\xff\xff\xff\xff\xff\xff\xff\xff", 16).ok() &&
               Decode(std::string(8, '\xff'), 8).ok());
}

TEST(SpdyFramesTest, FramesAreBoundedAndTheLimitIsNamed) {
  const absl::Status data = Decode(Hex("0000000100100001"), 8).status();
  EXPECT_EQ(data.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(base::ToStd(data.message())), HasSubstr("max_frame_bytes (1048576)"));
  EXPECT_TRUE(Decode(Hex("0000000100100000"), 8).ok());
  const absl::Status block = Decode(Hex("800300010000f000"), 8).status();
  EXPECT_EQ(block.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(base::ToStd(block.message())), HasSubstr("max_header_bytes (4096)"));
}

TEST(SpdyFramesTest, SettingsOfAnyNumberAreNotKept) {
  std::string bytes = Hex("80030004000800040001000000000000");
  bytes.resize(8 + 4 + (0x10000 << 3));
  bytes += SpdyPing(1);
  const absl::StatusOr<std::vector<Frame>> frames = Decode(bytes, 1000);
  ASSERT_TRUE(frames.ok()) << frames.status();
  ASSERT_EQ(frames->size(), 2);
  EXPECT_EQ(frames->front().head.value, 0x10000);
}

}  // namespace
}  // namespace streaming
