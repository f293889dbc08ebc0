#include "runtimeservice/streaming/spdy_headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "runtimeservice/streaming/test_spdy_vectors.h"

namespace streaming {
namespace {

using ::testing::HasSubstr;

constexpr size_t kLimit = 64 << 10;

// The compressed block of a SYN_STREAM or SYN_REPLY.
std::string Block(const SpdyVector& vector) {
  return vector.bytes().substr(vector.sender == "client" ? 18 : 12);
}

TEST(SpdyHeadersTest, TheDictionaryIsTheStandardOne) {
  const std::string_view dictionary = SpdyDictionary();
  const auto* bytes = reinterpret_cast<const Bytef*>(dictionary.data());
  EXPECT_EQ(adler32(1, bytes, static_cast<uInt>(dictionary.size())), 0xE3C6A7C2);
}

TEST(SpdyHeadersTest, EveryVectorIsInflated) {
  std::map<std::string, std::unique_ptr<SpdyInflater>> contexts;
  int blocks = 0;
  for (const SpdyVector& vector : SpdyVectors()) {
    if (vector.raw_hex.empty()) {
      continue;
    }
    std::string name = std::string(vector.group) + " " + std::string(vector.sender);
    if (vector.group == "hdr") {
      name += vector.frame;
    }
    auto& context = contexts[name];
    if (context == nullptr) {
      context = std::make_unique<SpdyInflater>(kLimit);
    }
    const absl::StatusOr<std::string> block = context->Inflate(Block(vector));
    ASSERT_TRUE(block.ok()) << vector.frame << ": " << block.status();
    EXPECT_EQ(*block, vector.raw()) << vector.frame;
    const absl::StatusOr<SpdyHeaders> headers = SpdyHeaders::Parse(*block);
    ASSERT_TRUE(headers.ok()) << vector.frame;
    EXPECT_EQ(headers->Serialize(), *block);
    ++blocks;
  }
  EXPECT_EQ(blocks, 23);
}

TEST(SpdyHeadersTest, WhatIsDeflatedIsInflatedAgainAtEveryLevel) {
  for (int level = 0; level <= 9; ++level) {
    SpdyDeflater deflater(level);
    SpdyInflater inflater(kLimit);
    for (int number = 0; number < 300; ++number) {
      SpdyHeaders headers;
      for (int name = 0; name < number % 7; ++name) {
        headers.Add(std::to_string(name), std::string(static_cast<size_t>(number * name), 'x'));
      }
      const std::string raw = headers.Serialize();
      const std::string deflated = deflater.Deflate(raw);
      ASSERT_TRUE(deflated.ends_with(std::string_view("\0\0\xff\xff", 4)));
      const absl::StatusOr<std::string> block = inflater.Inflate(deflated);
      ASSERT_TRUE(block.ok()) << block.status() << " level " << level << " block " << number;
      ASSERT_EQ(*block, raw);
    }
  }
}

TEST(SpdyHeadersTest, NamesAreComparedWithoutCaseAndTheFirstValueCounts) {
  SpdyHeaders headers;
  headers.Add("streamType", std::string_view("stdin\0stdout", 12));
  EXPECT_EQ(headers.Find("streamtype"), "stdin");
  EXPECT_EQ(headers.Find("port"), std::nullopt);
}

TEST(SpdyHeadersTest, ABombIsNotInflatedBeyondTheLimit) {
  SpdyDeflater deflater(9);
  const std::string bomb = deflater.Deflate(std::string(10 << 20, 'a'));
  SpdyInflater inflater(kLimit);
  const absl::StatusOr<std::string> block = inflater.Inflate(bomb);
  EXPECT_EQ(block.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(base::ToStd(block.status().message())), HasSubstr("max_header_bytes"));
}

TEST(SpdyHeadersTest, ABlockOfJustTheLimitIsAccepted) {
  for (const size_t limit : {4095, 4096, 8192, 9000}) {
    for (const size_t extra : {0, 1}) {
      SpdyDeflater deflater;
      SpdyInflater inflater(limit);
      EXPECT_EQ(inflater.Inflate(deflater.Deflate(std::string(limit + extra, 'a'))).ok(),
                extra == 0);
    }
  }
}

TEST(SpdyHeadersTest, ABlockMustEndWithASyncFlush) {
  const std::string whole = SpdyDeflater().Deflate(std::string_view("\0\0\0\0", 4));
  for (size_t size = 0; size < whole.size(); ++size) {
    SpdyInflater inflater(kLimit);
    EXPECT_FALSE(inflater.Inflate(std::string_view(whole).substr(0, size)).ok()) << size;
  }
  // These bytes lie within a stored block that goes on, so they are no flush.
  SpdyInflater inflater(kLimit);
  EXPECT_FALSE(inflater
                   .Inflate(std::string_view("\x78\x3f\xe3\xc6\xa7\xc2\0\x08\0\xf7\xff"
                                             "\0\0\xff\xff",
                                             15))
                   .ok());
}

TEST(SpdyHeadersTest, AfterABadBlockNoneIsTaken) {
  SpdyInflater inflater(kLimit);
  EXPECT_FALSE(inflater.Inflate(std::string_view("no zlib\0\0\xff\xff", 11)).ok());
  EXPECT_FALSE(inflater.Inflate(SpdyDeflater().Deflate("x")).ok());
}

TEST(SpdyHeadersTest, AnotherDictionaryIsRefused) {
  std::string block = SpdyDeflater().Deflate("x");
  block[2] = 1;
  const absl::StatusOr<std::string> inflated = SpdyInflater(kLimit).Inflate(block);
  EXPECT_THAT(std::string(base::ToStd(inflated.status().message())), HasSubstr("dictionary"));
}

TEST(SpdyHeadersTest, LengthsThatDoNotFitAreRefused) {
  SpdyHeaders headers;
  headers.Add("streamtype", "error");
  headers.Add("port", "80");
  const std::string block = headers.Serialize();
  for (size_t size = 0; size < block.size(); ++size) {
    EXPECT_FALSE(SpdyHeaders::Parse(std::string_view(block).substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(SpdyHeaders::Parse(block + "x").ok());
  EXPECT_FALSE(SpdyHeaders::Parse(std::string(4, '\xff')).ok());
  SpdyHeaders nameless;
  nameless.Add("", "x");
  EXPECT_FALSE(SpdyHeaders::Parse(nameless.Serialize()).ok());
}

TEST(SpdyHeadersTest, TheNumberOfHeadersIsBounded) {
  SpdyHeaders headers;
  for (size_t number = 0; number < kMaxSpdyHeaders; ++number) {
    headers.Add("a", "b");
  }
  EXPECT_TRUE(SpdyHeaders::Parse(headers.Serialize()).ok());
  headers.Add("a", "b");
  EXPECT_FALSE(SpdyHeaders::Parse(headers.Serialize()).ok());
}

}  // namespace
}  // namespace streaming
