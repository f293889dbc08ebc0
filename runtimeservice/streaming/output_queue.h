// Output that waits for a slow client: so much is kept, then bytes are skipped and counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "runtimeservice/streaming/command_client.h"

namespace streaming {

class OutputQueue {
 public:
  // Keeps at most `limit` bytes, those that are being written included. What was skipped is said
  // on `notes`, in the place of it: with what is kept next, or when the client has caught up.
  OutputQueue(size_t limit, OutputStream notes) : limit_(limit), notes_(notes) {}

  // Adds `bytes`, or skips them: all of what comes, from the first that does not fit until at least
  // half of the limit is free.
  void Push(OutputStream stream, std::string_view bytes);
  bool MoreThanHalf() const { return kept_ + taken_ > limit_ / 2; }
  // No more comes: says how much was skipped at the end.
  void End();

  struct Piece {
    OutputStream stream;
    std::string bytes;
  };
  // The next bytes to write, of one stream; none when there are none. They count until the next
  // call.
  std::optional<Piece> Take();

 private:
  void Append(OutputStream stream, std::string_view bytes);
  void Note();

  const size_t limit_;
  const OutputStream notes_;
  std::deque<Piece> pieces_;
  size_t kept_ = 0;   // Bytes in pieces_.
  size_t taken_ = 0;  // Bytes of the last piece that was taken.
  uint64_t skipped_ = 0;
};

}  // namespace streaming
