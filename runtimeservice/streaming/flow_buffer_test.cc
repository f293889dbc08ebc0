#include "runtimeservice/streaming/flow_buffer.h"

#include <gtest/gtest.h>

#include <list>

namespace streaming {
namespace {

size_t Fill(FlowBuffer& buffer) {
  const size_t size = buffer.Get().size();
  buffer.Filled(size);
  return size;
}

TEST(FlowBufferTest, ItGrowsWhileItIsFilledAndIsSmallAgainAfterAPause) {
  FlowBuffer buffer;
  EXPECT_EQ(Fill(buffer), FlowBuffer::kLeast);
  EXPECT_EQ(Fill(buffer), 4 * FlowBuffer::kLeast);
  EXPECT_EQ(Fill(buffer), FlowBuffer::kMost);
  EXPECT_EQ(Fill(buffer), FlowBuffer::kMost);
  buffer.Release();
  EXPECT_EQ(Fill(buffer), FlowBuffer::kLeast);
}

TEST(FlowBufferTest, ManyAreSmallBeyondWhatAllMayHave) {
  constexpr size_t kMany = 1000;
  std::list<FlowBuffer> buffers;
  size_t all = 0;
  for (size_t i = 0; i < kMany; ++i) {
    FlowBuffer& buffer = buffers.emplace_back();
    Fill(buffer);
    Fill(buffer);
    all += Fill(buffer);
  }
  EXPECT_GT(all, FlowBuffer::kMostOfAll / 2);
  EXPECT_LE(all, FlowBuffer::kMostOfAll + kMany * FlowBuffer::kLeast);
  buffers.clear();
  FlowBuffer next;
  Fill(next);
  Fill(next);
  EXPECT_EQ(Fill(next), FlowBuffer::kMost);
}

}  // namespace
}  // namespace streaming
