// The container's log in the format of the CRI: `TIME STREAM TAG TEXT\n`, TAG being F for a full
// line and P for a piece of one.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

namespace conmon {

inline constexpr size_t kMaxLine = 16384;  // Longer lines are split into P records of this size.
inline constexpr size_t kHoldMilliseconds = 200;  // How long an unfinished line waits for its end.

// The file. Only whole records are ever left in it: what a full disk cuts off is taken back and
// counted, and the container goes on. Its descriptor stays open until Open("").
class LogFile {
 public:
  static constexpr size_t kMaxVectors = 192;  // Three for each record.

  // `vectors`, of kMaxVectors, outlive this object; between calls they hold nothing.
  explicit LogFile(iovec* vectors) : vectors_(vectors) {}
  // Opens `path` for appending and closes the file before it; 0 or an errno, the old file then
  // stays. An empty path discards everything.
  int Open(const char* path);

  // Adds a record that refers to `text` until the next Commit. `ended`: its newline stands right
  // behind it.
  void Add(const char* stream, const char* text, size_t length, bool ended);
  // Writes what was added, all in one call if it fits.
  void Commit();

  uint64_t dropped() const { return dropped_; }
  int error() const { return error_; }  // errno of the last write, 0 if it went well.

 private:
  struct Prefix {
    char text[48];
    size_t length;
  };

  const Prefix& PrefixOf(const char* stream, bool ended);
  void Drop(size_t written);

  int fd_ = -1;
  int error_ = 0;
  uint64_t dropped_ = 0;
  int64_t last_time_ = 0;  // Times never go back within a container's logs.
  iovec* const vectors_;
  size_t vector_count_ = 0;
  // Of the batch: [0] for pieces, [1] for full lines; length 0: not made yet.
  const char* stream_ = nullptr;
  Prefix prefixes_[2] = {};
};

// What came from one stream and is not written yet: at most one line's worth.
class LineBuffer {
 public:
  static constexpr size_t kSize = kMaxLine + 1;

  // `data`, of kSize, outlives this object; it holds nothing while flush_time() is 0.
  LineBuffer(const char* stream, char* data) : stream_(stream), data_(data) {}

  // Where the next bytes go; there is always room.
  char* room() { return data_ + size_; }
  size_t room_size() const { return kSize - size_; }
  // `length` bytes were put there: logs every line that is complete or too long.
  void Added(size_t length, LogFile* log);
  // Logs what waits for its newline as a piece.
  void Flush(LogFile* log);

  // When Flush is due on the monotonic clock; 0 when nothing waits.
  int64_t flush_time() const { return flush_time_; }

 private:
  const char* const stream_;
  char* const data_;
  size_t size_ = 0;
  int64_t flush_time_ = 0;
};

}  // namespace conmon
