#include "runtimeservice/streaming/output_queue.h"

#include <utility>

#include "base/strings.h"

namespace streaming {
namespace {

constexpr size_t kMostOfPiece = 64 << 10;

}  // namespace

void OutputQueue::Push(OutputStream stream, std::string_view bytes) {
  const size_t free_from = skipped_ > 0 ? limit_ / 2 : limit_;
  if (kept_ + taken_ + bytes.size() > free_from) {
    skipped_ += bytes.size();
    return;
  }
  Note();
  Append(stream, bytes);
}

void OutputQueue::End() { Note(); }

std::optional<OutputQueue::Piece> OutputQueue::Take() {
  taken_ = 0;
  if (pieces_.empty()) {
    Note();  // The client has caught up; more output may never come.
  }
  if (pieces_.empty()) {
    return std::nullopt;
  }
  std::optional<Piece> piece = std::move(pieces_.front());
  pieces_.pop_front();
  taken_ = piece->bytes.size();
  kept_ -= taken_;
  return piece;
}

void OutputQueue::Append(OutputStream stream, std::string_view bytes) {
  if (pieces_.empty() || pieces_.back().stream != stream ||
      pieces_.back().bytes.size() + bytes.size() > kMostOfPiece) {
    pieces_.push_back({.stream = stream, .bytes = std::string()});
  }
  pieces_.back().bytes.append(bytes);
  kept_ += bytes.size();
}

void OutputQueue::Note() {
  if (skipped_ > 0) {
    Append(notes_, base::StrCat("[crisp: ", std::exchange(skipped_, 0),
                                " bytes of output skipped: this client was too slow]\r\n"));
  }
}

}  // namespace streaming
