#include "runtimeservice/streaming/output_queue.h"

#include <gtest/gtest.h>

namespace streaming {
namespace {

constexpr OutputStream kOut = OutputStream::kStdout;
constexpr OutputStream kErr = OutputStream::kStderr;

// All that is there, each piece after the letter of its stream.
std::string TakeAll(OutputQueue& queue) {
  std::string all;
  while (const std::optional<OutputQueue::Piece> piece = queue.Take()) {
    all += (piece->stream == kOut ? "o:" : "e:") + piece->bytes + " ";
  }
  return all;
}

TEST(OutputQueueTest, KeepsTheOrderAndJoinsWhatBelongsTogether) {
  OutputQueue queue(100, kErr);
  queue.Push(kOut, "a");
  queue.Push(kOut, "b");
  queue.Push(kErr, "c");
  queue.Push(kOut, "d");
  EXPECT_EQ(TakeAll(queue), "o:ab e:c o:d ");
  EXPECT_EQ(TakeAll(queue), "");
}

TEST(OutputQueueTest, WhatDoesNotFitIsSkippedAndCountedInItsPlace) {
  OutputQueue queue(10, kErr);
  queue.Push(kOut, "12345678");
  queue.Push(kOut, "abc");
  queue.Push(kOut, "d");  // It would fit: a stream with holes everywhere is of no use.
  EXPECT_EQ(queue.Take()->bytes, "12345678");
  // Told as soon as the client has caught up: more may never come.
  EXPECT_EQ(TakeAll(queue), "e:[crisp: 4 bytes of output skipped: this client was too slow]\r\n ");
  queue.Push(kOut, "later");
  queue.End();
  EXPECT_EQ(TakeAll(queue), "o:later ");
}

TEST(OutputQueueTest, WhatIsBeingWrittenCounts) {
  OutputQueue queue(10, kOut);
  queue.Push(kOut, "12345678");
  ASSERT_TRUE(queue.Take().has_value());
  queue.Push(kOut, "abc");
  queue.End();
  EXPECT_EQ(TakeAll(queue), "o:[crisp: 3 bytes of output skipped: this client was too slow]\r\n ");
}

}  // namespace
}  // namespace streaming
